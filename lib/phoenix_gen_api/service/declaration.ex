defmodule PhoenixGenApi.Service.Declaration do
  @moduledoc false
  # What `use PhoenixGenApi.Service` does while a module is compiled: collects each function that has an
  # `@api` before it and makes its configs once all specs and types are known. Every mistake is a
  # `CompileError` at the line of the function.

  alias PhoenixGenApi.ArgumentHandler.TypeParser
  alias PhoenixGenApi.Service.Spec
  alias PhoenixGenApi.Structs.{FunConfig, Request, StreamHelper}

  @used "use PhoenixGenApi.Service"
  @defaults :phoenix_gen_api_defaults
  @functions :phoenix_gen_api_functions
  # The function says what is called.
  @options Enum.sort(Map.keys(%FunConfig{}) -- [:__struct__, :mfa])

  @doc "Takes the options of the `use`."
  @spec open(Macro.Env.t(), term()) :: :ok
  def open(%{module: module} = env, defaults) do
    if Module.has_attribute?(module, @defaults), do: fail(env, "#{@used}: only once in a module")
    check_options(defaults, env, @used, "a keyword list")
    Module.put_attribute(module, @defaults, defaults)
    Module.register_attribute(module, :api, accumulate: true)
    Module.register_attribute(module, @functions, accumulate: true)
  end

  @doc false
  # Called for every clause; the one after an `@api` is the head of its function.
  @spec collect(Macro.Env.t(), atom(), atom(), [Macro.t()], [Macro.t()], term()) :: :ok
  def collect(env, kind, name, args, _guards, _body) do
    with [_ | _] = declared <- Module.get_attribute(env.module, :api) do
      function = %{
        label: "#{name}/#{length(args)}",
        name: name,
        names: Enum.map(args, &variable/1),
        doc: first_paragraph(Module.get_attribute(env.module, :doc)),
        file: env.file,
        line: env.line
      }

      if kind != :def,
        do: fail(function, "#{function.label}: @api needs a public function, this is a #{kind}")

      Module.delete_attribute(env.module, :api)

      for options <- Enum.reverse(declared),
          do: Module.put_attribute(env.module, @functions, {function, options})
    end

    :ok
  end

  defp variable({:\\, _, [argument, _default]}), do: variable(argument)
  defp variable({:=, _, [left, right]}), do: variable(left) || variable(right)

  defp variable({name, _, context}) when is_atom(name) and is_atom(context) do
    case name |> Atom.to_string() |> String.trim_leading("_") do
      "" -> nil
      name -> String.to_atom(name)
    end
  end

  defp variable(_pattern), do: nil

  defp first_paragraph({_line, text}) when is_binary(text) do
    paragraph = text |> String.trim() |> String.split(~r/\n\s*\n/, parts: 2) |> hd()
    if paragraph != "", do: String.replace(paragraph, ~r/\s+/, " ")
  end

  defp first_paragraph(_none), do: nil

  @doc false
  defmacro __before_compile__(env) do
    if Module.get_attribute(env.module, :api) != [],
      do: fail(env, "@api: no function follows the last one of #{inspect(env.module)}")

    defaults = Module.get_attribute(env.module, @defaults)

    declared =
      for {function, options} <- Enum.reverse(Module.get_attribute(env.module, @functions)),
          do: {function, config(env, function, defaults, options)}

    check_keys(declared)
    configs = Enum.map(declared, &elem(&1, 1))

    quote do
      @doc false
      @spec __gen_api__() :: [PhoenixGenApi.Structs.FunConfig.t()]
      def __gen_api__, do: unquote(Macro.escape(configs))
    end
  end

  defp config(env, function, defaults, options) do
    options = if options == true, do: [], else: options
    check_options(options, function, "#{function.label}: @api", "true or a keyword list")
    given = defaults |> Keyword.merge(options) |> Map.new()
    signature = signature(env, function)

    config =
      %FunConfig{
        request_type: Atom.to_string(function.name),
        doc: if(not private?(env.module), do: function.doc),
        nodes: :service,
        mfa: {env.module, function.name, []}
      }
      |> Map.merge(given)
      |> put_types(given, function, signature)
      |> put_result(given, env, signature)

    check(config, function)
    if config.request_info, do: check_appended(signature.appended, config.response_type, function)
    check_arity(config, function, signature)
    config
  end

  # Its documentation is for those who read the code.
  defp private?(module), do: match?({_line, false}, Module.get_attribute(module, :moduledoc))

  defp check_options(options, at, where, expected) do
    unless Keyword.keyword?(options),
      do: fail(at, "#{where}: expected #{expected}, got #{inspect(options)}")

    keys = Keyword.keys(options)

    case {Enum.reject(keys, &(&1 in @options)), keys -- Enum.uniq(keys)} do
      {[], []} ->
        :ok

      {[], [repeated | _]} ->
        fail(at, "#{where}: option #{inspect(repeated)} is given twice")

      {[unknown | _], _} ->
        known = Enum.map_join(@options, ", ", &inspect/1)
        fail(at, "#{where}: unknown option #{inspect(unknown)}, expected one of #{known}")
    end
  end

  # What the spec and the head say: of each argument the name, the type and the code of that type.
  defp signature(env, function) do
    case Spec.fetch(env, function.name, length(function.names)) do
      {:ok, {args, return}} ->
        arguments =
          for {{name, code}, variable} <- Enum.zip(args, function.names),
              do: {name || variable, Spec.type(env, code), code}

        appended = if args != [], do: Spec.appended(env, args |> List.last() |> elem(1))
        %{problem: nil, arguments: arguments, appended: appended, return: return}

      {:error, problem} ->
        arguments = for name <- function.names, do: {name, :error, nil}
        %{problem: problem, arguments: arguments, appended: nil, return: nil}
    end
  end

  defp put_types(config, %{arg_types: _given}, _function, _signature), do: config

  defp put_types(config, given, function, signature) do
    request? = Map.get(given, :request_info, signature.appended != nil)
    arguments = without_request(signature.arguments, request?)

    with [_ | _] <- arguments,
         problem when problem != nil <- signature.problem || problem(arguments) do
      fail_types(function, problem, arguments, request?)
    end

    types = for {name, {:ok, type}, _code} <- arguments, do: {Atom.to_string(name), type}
    %{config | arg_types: types, request_info: request?}
  end

  defp without_request(arguments, true), do: Enum.drop(arguments, -1)
  defp without_request(arguments, _none), do: arguments

  defp problem(arguments) do
    arguments
    |> Enum.with_index(1)
    |> Enum.find_value(fn
      {{nil, _type, _code}, place} ->
        "argument #{place} has no name in the @spec and none in the function head"

      {{name, :error, code}, _place} ->
        "cannot take the type of #{name} from #{Macro.to_string(code)}"

      _named_and_typed ->
        nil
    end)
  end

  defp check_appended(StreamHelper, type, function) when type != :stream,
    do: fail(function, "#{function.label}: takes a StreamHelper; write response_type: :stream")

  defp check_appended(Request, :stream, function) do
    fail(
      function,
      "#{function.label}: a function with response_type: :stream gets a StreamHelper; " <>
        "write StreamHelper.t() for Request.t()"
    )
  end

  defp check_appended(_appended, _type, _function), do: :ok

  @spec fail_types(map(), String.t(), [tuple()], term()) :: no_return()
  defp fail_types(function, problem, arguments, request?) do
    types =
      for {{name, type, _code}, place} <- Enum.with_index(arguments, 1) do
        case type do
          {:ok, type} -> {name || :"argument_#{place}", type}
          :error -> {name || :"argument_#{place}", :any}
        end
      end

    line =
      "arg_types: " <>
        inspect(types, limit: :infinity, printable_limit: :infinity, width: :infinity)

    line = if request? == true, do: line <> ", request_info: true", else: line
    hint = if :any in Keyword.values(types), do: ", with a type for each :any", else: ""
    fail(function, "#{function.label}: #{problem}; write #{line}#{hint}")
  end

  # What a stream returns is not what it sends.
  defp put_result(%{response_type: type} = config, given, env, %{return: return})
       when not is_map_key(given, :result) and type in [:sync, :async] and return != nil,
       do: %{config | result: Spec.result(env, return)}

  defp put_result(config, _given, _env, _signature), do: config

  defp check(config, function) do
    sentences =
      with [] <- unknown_type_options(config),
           {:error, sentences} <- FunConfig.validate_with_details(config),
           do: sentences

    if is_list(sentences), do: fail(function, "#{function.label}: #{Enum.join(sentences, "; ")}")
  end

  # Gateways ignore them with a warning. Whoever compiles the module can mend them.
  defp unknown_type_options(config) do
    for {field, types} <- [
          arg_types: config.arg_types,
          result: [{"result", config.result || :any}]
        ],
        {:ok, %{warnings: warnings}} <- [TypeParser.parse(types, :map)],
        "arg_types" <> warning <- warnings,
        do: "#{field}#{warning}"
  end

  defp check_arity(config, function, signature) do
    arity = length(function.names)
    called = FunConfig.arity(config)
    problem = "takes #{arity(arity)}, and would be called with #{called}"

    cond do
      called == arity ->
        :ok

      config.arg_orders == :map ->
        fail(
          function,
          "#{function.label}: #{problem}: arg_orders: :map makes one map of all arguments; " <>
            "write the function for that, or leave arg_orders out"
        )

      true ->
        declared = Map.new(config.arg_types || [], fn {name, type} -> {to_string(name), type} end)
        request? = config.request_info or signature.appended != nil

        arguments =
          for {name, type, code} <- without_request(signature.arguments, request?),
              do: {name, with(:error <- Map.fetch(declared, "#{name}"), do: type), code}

        fail_types(function, problem, arguments, request?)
    end
  end

  defp arity(1), do: "1 argument"
  defp arity(count), do: "#{count} arguments"

  defp check_keys(declared) do
    Enum.reduce(declared, %{}, fn {function, config}, known ->
      key = {to_string(config.service), config.request_type, FunConfig.version(config)}

      with %{^key => label} <- known do
        fail(
          function,
          "#{function.label}: #{key |> Tuple.to_list() |> Enum.join(" ")} is declared before #{label} too; " <>
            "give one of them another version or request_type"
        )
      end

      Map.put(known, key, function.label)
    end)
  end

  @spec fail(
          %{:file => String.t(), :line => non_neg_integer(), optional(atom()) => term()},
          String.t()
        ) :: no_return()
  defp fail(%{file: file, line: line}, description),
    do: raise(CompileError, file: file, line: line, description: description)
end
