defmodule PhoenixGenApi.Contract.OpenApi do
  @moduledoc false
  # A description as an OpenAPI 3.1 document of the HTTP interface.

  alias PhoenixGenApi.Contract.JsonSchema
  alias PhoenixGenApi.HttpStatus

  @unprocessable ~w(invalid_arguments missing_routing_key error)

  # What a status says; those of no function at all are left out.
  @failures for {status, says} <- [
                  {400, "The body is not a request"},
                  {401, "Who calls is not known"},
                  {403, "Not for this caller"},
                  {404, "No such function or version"},
                  {413, "The body is too large"},
                  {415, "The body is not JSON"},
                  {422, "The arguments are wrong, or the function has an error of its own"},
                  {429, "Over a rate limit"},
                  {500, "The function or the gateway failed"},
                  {503, "Not available now"},
                  {504, "Out of time"}
                ],
                codes = if(status == 422, do: @unprocessable, else: HttpStatus.codes(status)),
                do: {status, says, codes}

  @headers [
    {"RequestId", "x-request-id", %{"type" => "string", "maxLength" => 1_024},
     "The id of the request. The gateway makes one if there is none."},
    {"Deadline", "x-deadline-ms", %{"type" => "integer", "minimum" => 1},
     "Milliseconds that the whole request may take."}
  ]

  @spec document([map()], keyword()) :: JsonSchema.t()
  def document(services, opts) do
    own = Enum.group_by(opts[:statuses], &elem(&1, 1), &elem(&1, 0))

    %{
      "openapi" => "3.1.0",
      "info" => %{"title" => opts[:title], "version" => opts[:version]},
      "paths" =>
        for(
          %{"service" => service, "functions" => functions} <- services,
          function <- functions,
          into: %{},
          do:
            {path(service, function["request_type"]),
             %{"post" => operation(service, function, Map.keys(own), opts[:public])}}
        ),
      "components" => %{
        "parameters" => Map.new(@headers, &parameter/1),
        "headers" => %{
          "RequestId" => %{
            "description" => "The id of the request.",
            "schema" => %{"type" => "string"}
          }
        },
        "responses" => responses(own),
        "schemas" => %{"Failure" => failure()},
        "securitySchemes" => %{
          "identity" => %{
            "type" => "http",
            "scheme" => "bearer",
            "description" => "However the application finds out who calls."
          }
        }
      }
    }
    |> servers(opts[:servers])
  end

  defp servers(document, []), do: document

  defp servers(document, urls),
    do: Map.put(document, "servers", Enum.map(urls, &%{"url" => &1}))

  defp path(service, type), do: "/#{segment(service)}/#{segment(type)}"
  defp segment(name), do: URI.encode(name, &URI.char_unreserved?/1)

  # What holds for the whole operation is what holds for the version that is served unless one is named.
  defp operation(
         service,
         %{"versions" => versions, "default_version" => default} = function,
         own,
         public?
       ) do
    served = Enum.find(versions, List.last(versions), &(&1["version"] == default))

    %{
      "operationId" => "#{service}.#{function["request_type"]}",
      "tags" => Enum.uniq([service | served["tags"]]),
      "deprecated" => served["deprecated"] != false,
      "parameters" =>
        Enum.map(@headers, &ref("parameters", elem(&1, 0))) ++ [version(versions, default)],
      "requestBody" => %{
        "required" => default == nil or served["args"]["required"] != [],
        "content" => json(one_of(versions, & &1["args"]))
      },
      "responses" => Map.merge(failures(own), successes(versions)),
      "security" => security(served["permission"], public?),
      "x-permission" => served["permission"],
      "x-idempotent" => served["idempotent"],
      "x-timeout-ms" => served["timeout_ms"]
    }
    |> put("description", description(served))
  end

  defp description(%{"doc" => doc, "deprecated" => deprecated}) do
    case Enum.filter([doc, deprecated], &is_binary/1) do
      [] -> nil
      texts -> Enum.join(texts, "\n\n")
    end
  end

  defp version(versions, default) do
    schema = %{"type" => "string", "enum" => Enum.map(versions, & &1["version"])}

    %{
      "name" => "accept-version",
      "in" => "header",
      "required" => default == nil,
      "description" => "The version of the function.",
      "schema" => put(schema, "default", default)
    }
  end

  defp one_of([version], schema), do: schema.(version)

  defp one_of(versions, schema) do
    %{
      "anyOf" => Enum.map(versions, &Map.put(schema.(&1), "title", "version #{&1["version"]}"))
    }
  end

  defp successes(versions) do
    versions
    |> Enum.group_by(&if(&1["response_type"] == "none", do: "202", else: "200"))
    |> Map.new(fn {status, versions} -> {status, success(status, versions)} end)
  end

  defp success("202", _versions) do
    id = %{"type" => "object", "properties" => %{"request_id" => %{"type" => "string"}}}
    response("Accepted. Nothing is said of what becomes of it.", json(id))
  end

  defp success("200", versions) do
    {streams, others} = Enum.split_with(versions, &(&1["response_type"] == "stream"))
    frame = if streams != [], do: one_of(streams, &response_schema/1)

    content =
      if(others == [], do: %{}, else: json(one_of(others, &response_schema/1)))
      |> put("application/x-ndjson", if(frame, do: %{"schema" => frame}))
      |> put("text/event-stream", if(frame, do: %{"schema" => %{"type" => "string"}}))

    text = if others == [], do: "One frame for each item, and a last one.", else: "The result."
    response(text, content)
  end

  # The last frame of a stream has no item, or is an error.
  defp response_schema(%{"response_type" => "stream"} = version) do
    envelope(%{"anyOf" => [version["result"] || %{}, %{"type" => "null"}]}, %{"type" => "boolean"})
  end

  defp response_schema(version), do: envelope(version["result"] || %{}, %{"const" => true})

  defp envelope(result, success) do
    properties = %{
      "request_id" => %{"type" => "string"},
      "success" => success,
      "result" => result,
      "error" => %{"type" => ["string", "null"]},
      "async" => %{"type" => "boolean"},
      "has_more" => %{"type" => "boolean"},
      "can_retry" => %{"type" => "boolean"}
    }

    %{
      "type" => "object",
      "properties" => properties,
      "required" => properties |> Map.keys() |> Enum.sort()
    }
  end

  defp failure do
    details = %{"type" => "array", "items" => %{"type" => "object"}}

    envelope(%{}, %{"const" => false})
    |> put_in(["properties", "request_id"], %{"type" => ["string", "null"]})
    |> put_in(["properties", "code"], %{
      "type" => "string",
      "description" => "For programs to go by: one of those of the status, or a function's own."
    })
    |> put_in(["properties", "details"], details)
    |> Map.update!("required", &Enum.sort(["code" | &1]))
  end

  defp failures(own) do
    statuses = Enum.map(@failures, &elem(&1, 0)) ++ own
    Map.new(statuses, &{Integer.to_string(&1), ref("responses", name(&1))})
  end

  defp responses(own) do
    known = Map.new(@failures, fn {status, text, codes} -> {status, {text, codes}} end)

    own
    |> Map.new(fn {status, codes} -> {status, {"An error of the function's own", codes}} end)
    |> Map.merge(known, fn _status, {_text, codes}, {text, more} -> {text, more ++ codes} end)
    |> Map.new(fn {status, {text, codes}} ->
      codes = Enum.map_join(codes, ", ", &"`#{&1}`")
      {name(status), response("#{text}: #{codes}.", json(ref("schemas", "Failure")))}
    end)
  end

  defp name(status), do: "Status#{status}"

  defp response(text, content) do
    %{
      "description" => text,
      "headers" => %{"x-request-id" => ref("headers", "RequestId")},
      "content" => content
    }
  end

  defp security(%{"kind" => "public"}, true), do: [%{}, %{"identity" => []}]
  defp security(_permission, _public?), do: [%{"identity" => []}]

  defp parameter({name, header, schema, text}),
    do: {name, %{"name" => header, "in" => "header", "description" => text, "schema" => schema}}

  defp json(schema), do: %{"application/json" => %{"schema" => schema}}
  defp ref(kind, name), do: %{"$ref" => "#/components/#{kind}/#{name}"}
  defp put(map, _key, nil), do: map
  defp put(map, key, value), do: Map.put(map, key, value)
end
