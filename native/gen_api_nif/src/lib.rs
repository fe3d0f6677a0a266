//! NIF boundary of phoenix_gen_api.

rustler::init!("Elixir.PhoenixGenApi.Native");
