defmodule PhoenixGenApi.Native do
  @moduledoc false
  # Stubs of the NIFs, grouped by subsystem. Only the public module that owns a
  # subsystem calls its stubs. A loaded NIF module cannot be replaced at run time,
  # so nothing but stubs lives here.

  @on_load :load

  @doc false
  def load do
    case :erlang.load_nif(String.to_charlist(Path.rootname(file())), 0) do
      :ok -> :persistent_term.put({__MODULE__, :load_error}, nil)
      {:error, reason} -> :persistent_term.put({__MODULE__, :load_error}, reason)
    end

    :ok
  end

  @doc "The path of the native library."
  @spec file() :: String.t()
  def file do
    Application.app_dir(:phoenix_gen_api, ["priv", "native", "gen_api_nif.so"])
  end

  @doc "`:ok`, or a sentence that names the file and says why it could not be loaded."
  @spec status() :: :ok | {:error, String.t()}
  def status do
    case :persistent_term.get({__MODULE__, :load_error}, nil) do
      nil -> :ok
      {kind, text} -> {:error, "cannot load the native library #{file()}: #{kind}: #{text}"}
    end
  end
end
