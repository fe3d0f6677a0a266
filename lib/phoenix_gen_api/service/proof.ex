defmodule PhoenixGenApi.Service.Proof do
  @moduledoc false
  # That both ends have the same push token, which stays where it is: the gateway draws a nonce, the service
  # answers HMAC-SHA-256(token, nonce, hash, node), after RFC 2104. What one node has answered proves nothing
  # for another, for other content, or a second time.

  @nonce_bytes 32

  @type token :: String.t() | nil

  @doc "Bytes that nobody can foresee."
  @spec nonce() :: binary()
  def nonce, do: :crypto.strong_rand_bytes(@nonce_bytes)

  @doc "The answer to a nonce; `nil` without a token."
  @spec answer(token(), binary(), binary(), node()) :: binary() | nil
  def answer(nil, _nonce, _hash, _node), do: nil

  def answer(token, nonce, hash, node),
    do: :crypto.mac(:hmac, :sha256, token, [nonce, hash, Atom.to_string(node)])

  @doc "Whether an answer is the right one. Without a token any is."
  @spec valid?(term(), token(), binary(), binary(), node()) :: boolean()
  def valid?(_answer, nil, _nonce, _hash, _node), do: true

  def valid?(answer, token, nonce, hash, node) do
    expected = answer(token, nonce, hash, node)

    is_binary(answer) and byte_size(answer) == byte_size(expected) and
      :crypto.hash_equals(answer, expected)
  end
end
