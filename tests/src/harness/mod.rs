//! Stand-ins for what an agent talks to.

pub mod api_server;
