defmodule PhoenixGenApi.Contract.Comparison do
  @moduledoc false
  # What has changed between two descriptions, and what that means to clients that were written for the older.

  alias PhoenixGenApi.Contract.Comparison.Schemas

  # Every change that is told, as the guide lists them.
  @changes [
    {:function_removed, :breaking, "a function is no longer there"},
    {:version_removed, :breaking, "a version is no longer there"},
    {:default_version_removed, :breaking, "a request without a version is no longer served"},
    {:required_argument_added, :breaking,
     "a new argument has neither `default_value` nor `allow_nil?`"},
    {:argument_required, :breaking, "an argument has lost its `default_value` or `allow_nil?`"},
    {:argument_removed, :breaking,
     "an argument is no longer declared, so it is an error to send it"},
    {:argument_narrowed, :breaking,
     "an argument has another type, a tighter limit, another format or fewer values"},
    {:response_type_changed, :breaking, "a function has another `response_type`"},
    {:result_field_removed, :breaking, "a field of a result is gone"},
    {:result_field_optional, :breaking, "a field of a result may be missing"},
    {:result_widened, :breaking,
     "a result has another type, a looser limit, another format or more values"},
    {:result_undescribed, :breaking, "a result is no longer described"},
    {:permission_stricter, :breaking, "fewer may call, or others"},
    {:idempotence_lost, :breaking, "calls may no longer be repeated"},
    {:function_added, :compatible, "a new function"},
    {:version_added, :compatible, "a new version"},
    {:default_version_changed, :compatible,
     "a request without a version gets another one; what that breaks is told besides"},
    {:optional_argument_added, :compatible, "a new argument that may be missing"},
    {:argument_optional, :compatible, "an argument may be missing"},
    {:argument_widened, :compatible,
     "an argument takes more types or values, or has a looser limit or no format"},
    {:result_field_added, :compatible, "a result has a field more"},
    {:result_field_required, :compatible, "a field of a result is always there"},
    {:result_narrowed, :compatible, "a result has a tighter limit or fewer values"},
    {:result_described, :compatible, "a result is described"},
    {:permission_looser, :compatible, "more may call"},
    {:idempotence_gained, :compatible, "calls may be repeated"},
    {:deprecated, :compatible, "a version is deprecated"},
    {:deprecation_withdrawn, :compatible, "a version is no longer deprecated"}
  ]

  @severities Map.new(@changes, fn {change, severity, _text} -> {change, severity} end)

  @doc "Every change with its severity and a description, breaking ones first."
  @spec changes() :: [{atom(), :breaking | :compatible, String.t()}]
  def changes, do: @changes

  @spec compare([map()], [map()]) :: [PhoenixGenApi.Contract.change()]
  def compare(old, new) do
    {old, new} = {functions(old), functions(new)}

    for key <- keys(old, new), told <- function(old[key], new[key]) do
      {service, type} = key
      told(told, "#{service} #{type}")
    end
  end

  defp functions(services) do
    for %{"service" => service, "functions" => functions} <- services,
        %{"request_type" => type} = function <- functions,
        into: %{},
        do: {{service, type}, function}
  end

  defp keys(old, new), do: Enum.sort(Map.keys(old) ++ (Map.keys(new) -- Map.keys(old)))

  # Each change as {change, version | nil, path, text}; without a path the text is about the function.
  defp function(nil, _new), do: [{:function_added, nil, nil, "is new"}]
  defp function(_old, nil), do: [{:function_removed, nil, nil, "has been removed"}]

  defp function(old, new) do
    {olds, news} = {versions(old), versions(new)}

    each =
      for name <- keys(olds, news), {change, path, text} <- version(olds[name], news[name]) do
        {change, name, path, text}
      end

    each ++ default(old["default_version"], new["default_version"], olds, news)
  end

  defp versions(%{"versions" => versions}), do: Map.new(versions, &{&1["version"], &1})

  # Clients that name no version now get another one.
  defp default(same, same, _olds, _news), do: []
  defp default(nil, _new, _olds, _news), do: []

  defp default(_old, nil, _olds, _news),
    do: [{:default_version_removed, nil, nil, "is no longer served without a version"}]

  defp default(old, new, olds, news) do
    broken =
      for {change, path, text} <- version(olds[old], news[new]),
          @severities[change] == :breaking,
          do:
            {change, nil, path,
             if(path, do: "without a version, " <> text, else: text <> " without a version")}

    changed = "is served as #{new} instead of #{old} without a version"
    [{:default_version_changed, nil, nil, changed} | broken]
  end

  defp version(nil, _new), do: [{:version_added, nil, "is new"}]
  defp version(_old, nil), do: [{:version_removed, nil, "has been removed"}]

  defp version(old, new) do
    Schemas.arguments(old["args"], new["args"]) ++
      Schemas.results(old["result"], new["result"]) ++
      response_type(old["response_type"], new["response_type"]) ++
      permission(old["permission"], new["permission"]) ++
      idempotent(old["idempotent"], new["idempotent"]) ++
      deprecated(old["deprecated"], new["deprecated"])
  end

  defp response_type(same, same), do: []

  defp response_type(old, new),
    do: [{:response_type_changed, nil, "has the response type #{new} instead of #{old}"}]

  defp permission(same, same), do: []

  defp permission(old, new) do
    text = "is for #{allowed(new)} instead of #{allowed(old)}"

    case stricter(old, new) do
      true -> [{:permission_stricter, nil, text}]
      false -> [{:permission_looser, nil, text}]
      :same -> []
    end
  end

  defp stricter(_old, %{"kind" => "public"}), do: false

  defp stricter(%{"kind" => kind}, %{"kind" => "authenticated"}) when kind in ["roles", "owner"],
    do: false

  defp stricter(%{"kind" => "roles", "roles" => old}, %{"kind" => "roles", "roles" => new}) do
    cond do
      old -- new != [] -> true
      new -- old != [] -> false
      true -> :same
    end
  end

  defp stricter(_old, _new), do: true

  defp allowed(%{"kind" => "public"}), do: "everyone"
  defp allowed(%{"kind" => "authenticated"}), do: "every user"
  defp allowed(%{"kind" => "owner", "arg" => name}), do: "the user in the argument #{name}"
  defp allowed(%{"kind" => "custom"}), do: "those whom a callback lets in"

  defp allowed(%{"kind" => "roles", "roles" => roles}),
    do: "the roles #{roles |> Enum.sort() |> Enum.join(", ")}"

  defp idempotent(true, false), do: [{:idempotence_lost, nil, "may no longer be called twice"}]
  defp idempotent(false, true), do: [{:idempotence_gained, nil, "may be called twice"}]
  defp idempotent(_same, _as_before), do: []

  defp deprecated(false, new) when new != false, do: [{:deprecated, nil, "is deprecated"}]

  defp deprecated(old, false) when old != false,
    do: [{:deprecation_withdrawn, nil, "is no longer deprecated"}]

  defp deprecated(_old, _new), do: []

  defp told({change, version, path, text}, function) do
    name = if version, do: "#{function} #{version}", else: function

    %{
      change: change,
      severity: Map.fetch!(@severities, change),
      function: name,
      path: path || "",
      message: name <> about(path, text)
    }
  end

  defp about(nil, text), do: " " <> text
  defp about(_path, text), do: ": " <> text
end
