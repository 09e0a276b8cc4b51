//! placeholder until the sinks land
use super::{SinkError, encode::Encoder, settings::SinkSettings};
use crate::{
    event::{Event, Loss, Node},
    metrics::Figures,
};
use std::{io::Write as _, sync::Arc, time::Duration};
use tokio_util::task::TaskTracker;
/// publishes
pub struct Publisher {
    encoder: Encoder,
    buffer: String,
}
/// workers
pub struct Workers;
/// start
pub fn start(
    _s: &[SinkSettings],
    node: &Arc<Node>,
    _f: &Arc<Figures>,
    _l: impl Fn(Loss) + Send + Sync + 'static,
    _t: &TaskTracker,
) -> Result<(Publisher, Workers), SinkError> {
    Ok((Publisher { encoder: Encoder::new(Arc::clone(node)), buffer: String::new() }, Workers))
}
impl Publisher {
    /// publish
    pub fn publish(&mut self, event: &Event) {
        self.buffer.clear();
        self.encoder.encode(event, &mut self.buffer);
        self.buffer.push('\n');
        let _ = std::io::stdout().write_all(self.buffer.as_bytes());
    }
}
impl Workers {
    /// died
    pub async fn died(&mut self) -> String {
        std::future::pending().await
    }
    /// drain
    pub async fn drain(self, _d: Duration) -> Vec<(String, u64)> {
        Vec::new()
    }
}
