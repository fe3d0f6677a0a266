defmodule PhoenixGenApi.PermissionTest do
  # Drains nodes and reads the log of the whole node.
  use ExUnit.Case, async: false

  import PhoenixGenApi.Test.Answers
  import ExUnit.CaptureLog

  alias PhoenixGenApi.{Executor, NodeSelector, Permission, Plan}
  alias PhoenixGenApi.Permission.PermissionDenied
  alias PhoenixGenApi.Structs.{FunConfig, Request, Response}
  alias PhoenixGenApi.Test.Functions

  doctest PermissionDenied

  @moduletag :capture_log

  defp config(fields), do: Functions.config(fn -> :ran end, [timeout: 1_000] ++ fields)
  defp request(fields), do: Functions.request(fields)

  # The two functions and the request path must agree.
  defp granted?(config, request) do
    granted? = Permission.check_permission(request, config)

    if granted? do
      assert Permission.check_permission!(request, config) == nil
      assert Permission.check_permission_remote!(request, config) == :ok
    else
      assert_raise PermissionDenied, fn -> Permission.check_permission!(request, config) end

      assert_raise PermissionDenied, fn ->
        Permission.check_permission_remote!(request, config)
      end
    end

    with {:ok, plan, _config} <- Plan.compile(config) do
      decided = Permission.authorise(plan, request, node())

      if granted?,
        do: assert(decided == :ok),
        else: assert({:error, {:permission_denied, _user, _why}} = decided)
    end

    granted?
  end

  test "false grants to everyone" do
    assert granted?(config(check_permission: false), request([]))
    assert granted?(config(check_permission: false), %Request{args: :junk, user_id: self()})
  end

  test ":any_authenticated grants to a user id that is a non-empty string" do
    config = config(check_permission: :any_authenticated)
    assert granted?(config, request(user_id: "ann"))

    for junk <- [nil, "", :ann, 5, ~c"ann", true, %{}, ["ann"]],
        do: refute(granted?(config, request(user_id: junk)))
  end

  describe "{:callback, mfa}" do
    defmodule Decides do
      def owner?(request, owner), do: request.user_id == owner
    end

    test "is permission_callback in another place" do
      callback = {Decides, :owner?, ["ann"]}
      config = config(check_permission: {:callback, callback})
      assert granted?(config, request(user_id: "ann"))
      refute granted?(config, request(user_id: "bob"))
      refute granted?(config, request([]))

      assert {:ok, _plan, stored} = Plan.compile(config)
      assert %{check_permission: false, permission_callback: ^callback} = stored

      other = {Decides, :owner?, ["bob"]}
      both = %{config | permission_callback: other}
      assert {:ok, _plan, %{permission_callback: ^other}} = Plan.compile(both)
      refute granted?(both, request(user_id: "ann"))

      assert %PermissionDenied{permission_mode: ^callback} =
               catch_error(Permission.check_permission!(request(user_id: "bob"), config))
    end

    test "is checked as one: its form, and whether it may be named" do
      for callback <- [nil, {Decides, :owner?}, {nil, :f, []}, {Decides, :owner?, :x}] do
        config = config(check_permission: {:callback, callback})
        assert {:error, [sentence]} = FunConfig.validate_with_details(config)
        assert sentence =~ "check_permission must be"
        refute granted?(config, request(user_id: "ann"))
      end

      config = config(check_permission: {:callback, {:os, :cmd, []}})
      refused = {:error, {:mfa_not_allowed, {:os, :cmd, []}}}
      assert PhoenixGenApi.Security.validate_config(config) == refused
      assert PhoenixGenApi.ConfigDb.add(config) == refused
    end
  end

  describe "{:arg, name}" do
    test "grants when the argument is strictly the user id" do
      config = config(check_permission: {:arg, "owner"}, arg_types: %{"owner" => :any})
      assert granted?(config, request(user_id: "ann", args: %{"owner" => "ann"}))

      for {user, args} <- [
            {"ann", %{"owner" => "bob"}},
            {"ann", %{"owner" => nil}},
            {"ann", %{"owner" => ["ann"]}},
            {"ann", %{"owner" => :ann}},
            {"ann", %{owner: "ann"}},
            {"ann", %{}},
            {"ann", %{"x" => %{"owner" => "ann"}}},
            {nil, %{"owner" => nil}},
            {"", %{"owner" => ""}},
            {1, %{"owner" => 1}},
            {1, %{"owner" => 1.0}},
            {nil, %{}},
            {"ann", nil},
            {"ann", "owner"},
            {"ann", [{"owner", "ann"}]}
          ] do
        refute granted?(config, request(user_id: user, args: args)), inspect({user, args})
      end
    end

    test "grants for the user id as an integer, also of any size" do
      config = config(check_permission: {:arg, "owner"}, arg_types: %{"owner" => :any})
      assert granted?(config, request(user_id: "42", args: %{"owner" => 42}))
      assert granted?(config, request(user_id: "-7", args: %{"owner" => -7}))

      for {user, owner} <- [
            {"42", 43},
            {"42", 42.0},
            {"042", 42},
            {"+42", 42},
            {"42 ", 42},
            {"42", [42]},
            {"ann", 42},
            {"42", 10 ** 900_000}
          ] do
        refute granted?(config, request(user_id: user, args: %{"owner" => owner}))
      end

      nested =
        config(check_permission: {:arg, "owner"}, arg_types: %{"a" => :any}, arg_orders: :map)

      assert granted?(nested, request(user_id: "42", args: %{"a" => %{"owner" => 42}}))
      refute granted?(nested, request(user_id: "42", args: %{"a" => %{"owner" => 43}}))
    end

    test "may be named by an atom" do
      config = config(check_permission: {:arg, :owner}, arg_types: %{"owner" => :any})
      assert granted?(config, request(user_id: "ann", args: %{"owner" => "ann"}))
      refute granted?(config, request(user_id: "ann", args: %{"owner" => "bob"}))
    end

    test "with arg_orders :map looks one level down where there is none on top" do
      types = %{"a" => :any, "b" => :any, "owner" => :any}
      config = config(check_permission: {:arg, "owner"}, arg_types: types, arg_orders: :map)

      for {expected, args} <- [
            {true, %{"owner" => "ann"}},
            {true, %{"a" => %{"owner" => "ann"}}},
            {true, %{"a" => %{"owner" => "ann"}, "b" => %{"owner" => "ann"}}},
            {true, %{"a" => %{"owner" => "ann"}, "b" => %{"other" => "bob"}}},
            {true, %{"a" => %{"owner" => "ann"}, "b" => 5}},
            {false, %{"a" => %{"owner" => "ann"}, "b" => %{"owner" => "bob"}}},
            {false, %{"a" => %{"owner" => "ann"}, "b" => %{"owner" => nil}}},
            {false, %{"a" => %{"x" => %{"owner" => "ann"}}}},
            {false, %{"a" => [%{"owner" => "ann"}]}},
            {false, %{"owner" => "bob", "a" => %{"owner" => "ann"}}},
            {false, %{"owner" => nil, "a" => %{"owner" => "ann"}}},
            {false, %{"a" => %{owner: "ann"}}},
            {false, %{"a" => "owner"}},
            {false, %{}}
          ] do
        assert granted?(config, request(user_id: "ann", args: args)) == expected, inspect(args)
      end

      refute granted?(config, request(user_id: nil, args: %{"a" => %{"owner" => nil}}))
    end

    test "with any other order looks on top only" do
      config =
        config(check_permission: {:arg, "owner"}, arg_types: %{"a" => :any}, arg_orders: ["a"])

      refute granted?(config, request(user_id: "ann", args: %{"a" => %{"owner" => "ann"}}))
    end
  end

  describe "{:role, roles}" do
    test "grants when one role is held, strictly" do
      config = config(check_permission: {:role, ["admin", "ops"]})
      assert granted?(config, request(user_roles: ["user", "ops"]))
      # Roles alone decide; who has them need not be known.
      assert granted?(config, request(user_roles: ["admin"], user_id: nil))

      for roles <-
            [nil, [], ["user"], ["Admin"], [["admin"]], "admin", %{"admin" => true}] ++
              [["user" | "admin"], [nil], :admin, 5],
          do: refute(granted?(config, request(user_roles: roles)), inspect(roles))
    end

    test "may be spelled as atoms" do
      assert granted?(config(check_permission: {:role, [:admin]}), request(user_roles: ["admin"]))
    end
  end

  test "anything else in a config made by hand denies, and is logged as an error" do
    args = %{nil => "ann", "" => "ann", "a" => "ann"}
    request = request(user_id: "ann", user_roles: ["a"], args: args)

    for junk <-
          [nil, true, :admin, "false", {:arg, nil}, {:arg, ""}, {:arg, 5}, {:role, nil}] ++
            [{:role, "a"}, {:role, ["a" | "b"]}, {:other, 1}, {:arg, "a", "b"}, [], %{}] do
      config = config(check_permission: junk)
      refute Permission.check_permission(request, config), inspect(junk)
    end

    log =
      capture_log(fn ->
        refute Permission.check_permission(request([]), config(check_permission: :admin))
      end)

    assert log =~ "[error]"
  end

  describe "permission_callback" do
    defp callback(fun, fields \\ []),
      do:
        config([permission_callback: {Functions, :permit, [fun]}, hook_timeout: 1_000] ++ fields)

    test "grants with true or :ok and with nothing else" do
      assert granted?(callback(fn _ -> true end), request([]))
      assert granted?(callback(fn _ -> :ok end), request([]))

      for answer <- [
            false,
            nil,
            :error,
            {:ok, true},
            "true",
            1,
            :yes,
            [],
            %Response{success: true}
          ] do
        refute granted?(callback(fn _ -> answer end), request([])), inspect(answer)
      end
    end

    test "replaces check_permission both ways" do
      assert granted?(
               callback(fn _ -> true end, check_permission: :any_authenticated),
               request([])
             )

      refute granted?(callback(fn _ -> false end, check_permission: false), request([]))
    end

    test "denies when it raises, exits, throws, dies, hangs or is not there" do
      parent = self()

      for fun <- [
            fn _ -> raise "hunter2" end,
            fn _ -> exit(:normal) end,
            fn _ -> throw(true) end,
            fn _ -> Process.exit(self(), :kill) end
          ] do
        refute granted?(callback(fun), request([]))
      end

      hang = fn _ ->
        send(parent, {:hanging, self()})
        Process.sleep(:infinity)
      end

      refute Permission.check_permission(request([]), callback(hang, hook_timeout: 20))
      assert_received {:hanging, pid}
      monitor = Process.monitor(pid)
      assert_receive {:DOWN, ^monitor, :process, ^pid, reason} when reason in [:killed, :noproc]

      refute granted?(config(permission_callback: {NoSuchModule, :permit, []}), request([]))
      refute granted?(config(permission_callback: {Functions, :no_such, []}), request([]))
      refute_received _
    end

    test "gets the whole request and then its own arguments, in a process of its own" do
      parent = self()
      request = request(user_id: "ann", args: %{"unchecked" => {:any, self()}})

      fun = fn given ->
        send(parent, {:given, given, self(), Process.get(:"$callers")})
        true
      end

      assert Permission.check_permission(request, callback(fun))
      assert_received {:given, ^request, pid, [^parent | _]}
      assert pid != parent
    end

    test "of a wrong form denies when passed by hand" do
      for junk <-
            [false, true, {Functions, :permit}, {Functions, "permit", []}, "x", []] ++
              [{Functions, :permit, nil}, fn _ -> true end] do
        refute Permission.check_permission(request([]), config(permission_callback: junk))
      end
    end

    test "is asked on the node given, by default on the one that would run the function" do
      parent = self()
      told = fn -> assert_received({:asked, node}) && node end

      config = config(permission_callback: {Functions, :told, [true, parent]})
      assert Permission.check_permission_remote!(request([]), config) == :ok
      assert told.() == node()
      assert Permission.check_permission_remote!(request([]), config, node()) == :ok
      assert told.() == node()

      elsewhere = %{config | nodes: [:"nobody@127.0.0.1"]}

      assert_raise PermissionDenied, fn ->
        Permission.check_permission_remote!(request([]), elsewhere)
      end

      refute_received {:asked, _}
    end

    test "that cannot be asked because no node is usable gives the text of node selection" do
      node = :"drained_#{System.unique_integer([:positive])}@h"
      :ok = NodeSelector.drain(node)
      on_exit(fn -> NodeSelector.undrain(node) end)
      config = callback(fn _ -> true end, nodes: [node])
      refute Permission.check_permission(request([]), config)

      assert Executor.execute_with_config!(request([]), config) ==
               error("No service node available", true)
    end
  end

  describe "a denial" do
    test "is an exception that says who, what and why" do
      config = config(check_permission: {:role, ["admin"]})
      request = request(user_id: "ann", user_roles: ["user"])

      error =
        assert_raise PermissionDenied, fn -> Permission.check_permission!(request, config) end

      assert error.user_id == "ann"
      assert error.request_id == "r1"
      assert error.request_type == "run"
      assert error.permission_mode == {:role, ["admin"]}

      assert Exception.message(error) ==
               "Permission denied for user: ann, request: r1, type: run, mode: {:role, [\"admin\"]}"
    end

    test "of a request that holds anything still has a text" do
      for junk <- [nil, <<255>>, self(), String.duplicate("é", 5_000), {:a}, 10 ** 500] do
        request = %Request{request_id: junk, user_id: junk, request_type: junk}
        config = config(check_permission: {:role, ["admin"]})

        error =
          assert_raise PermissionDenied, fn -> Permission.check_permission!(request, config) end

        assert String.valid?(Exception.message(error))
        assert byte_size(Exception.message(error)) < 2_500
      end
    end

    test "in a request is logged as a warning without the arguments, and all the client sees" do
      :ets.delete_all_objects(PhoenixGenApi.FailureLog.Limit)
      config = config(check_permission: {:arg, "owner"}, arg_types: %{"owner" => :any})
      request = request(user_id: "ann", args: %{"owner" => "hunter2"})

      log =
        capture_log(fn ->
          assert Executor.execute_with_config!(request, config) ==
                   error("Permission denied", false, code: "forbidden")
        end)

      assert log =~ "[warning]"
      assert log =~ "ann"
      assert log =~ "r1"
      assert log =~ "run"
      refute log =~ "hunter2"
    end
  end

  test "permission is decided before the arguments are validated" do
    config = config(check_permission: :any_authenticated, arg_types: %{"n" => :integer})
    denied = error("Permission denied")
    bad = request(args: %{"n" => "no", "extra" => 1})
    assert Executor.execute_with_config!(bad, config) == denied

    assert Executor.execute_with_config!(%{bad | user_id: "ann"}, config).error ==
             "argument validation failed"
  end

  test "an unchecked config struct denies nothing by default" do
    assert Permission.check_permission(%Request{}, %FunConfig{})
  end

  test "PermissionDenied can be raised with a message, with its fields, and with a request" do
    assert_raise PermissionDenied, "not today", fn -> raise PermissionDenied, "not today" end
    assert_raise PermissionDenied, "no", fn -> raise PermissionDenied, message: "no" end

    text = "Permission denied for user: ann, request: nil, type: nil, mode: nil"
    raised = assert_raise PermissionDenied, text, fn -> raise PermissionDenied, user_id: "ann" end
    assert raised.user_id == "ann"
    assert_raise PermissionDenied, ~r/user: nil/, fn -> raise PermissionDenied end

    raised = PermissionDenied.exception(request: request(user_id: "ann"), mode: false)
    assert {raised.user_id, raised.request_id, raised.permission_mode} == {"ann", "r1", false}

    assert raised.message ==
             "Permission denied for user: ann, request: r1, type: run, mode: false"
  end
end
