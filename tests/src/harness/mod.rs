//! Stand-ins for what an agent talks to, and real programs that act on the machine while it watches. Each program is
//! ended by its pid when its owner is dropped, and leaves nothing behind. What goes wrong here is no finding about the
//! agent, so it panics and says what happened.

pub mod agent;
pub mod amazon;
pub mod api_server;
pub mod azure;
pub mod containerd;
pub mod cri;
pub mod docker;
pub mod engine;
pub mod fluentd;
mod http;
mod keys;
pub mod nerdctl;
mod network;
pub mod node;
pub mod program;
pub mod ssh;
pub mod sshd;
pub mod sudoers;
pub mod teleport;
mod tls;
pub mod typed;
pub mod vm;
