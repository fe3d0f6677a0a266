//! The boundary between the BEAM and `gen_api_core`.
//!
//! A NIF decodes its arguments, makes one core call and encodes the outcome; it decides
//! nothing. One file per Elixir module, or several that begin with its name; a NIF is named
//! `<module>_<verb>`.

mod argument_handler;
mod atoms;
mod build;
mod candidate_set;
mod channel_requests;
mod channel_requests_terms;
mod circuits;
mod client_connection;
mod config_db;
mod decode;
mod encoded;
mod executor;
mod json_encoding;
mod mode;
mod node_selector;
mod outcome;
mod plan;
mod rate_limiter;
mod relay;
mod relay_listing;
mod relay_monitor;
mod relay_publish;
mod relay_replication;
mod relay_terms;
mod route;
mod routing_key;
mod rpc_server;
mod schema;
mod schema_kinds;
mod terms;
mod value;
mod worker_pool;

rustler::init!("Elixir.PhoenixGenApi.Native");
