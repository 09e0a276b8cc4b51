//! Asks the container runtime for what the pipeline does not know, one container at a time and in the order of asking.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    inbox::{Inbox, Message},
    tell,
};
use crate::{
    container::{Runtime, RuntimeError, cgroup::CgroupContainer},
    pipeline::{Input, Lookup},
};

/// Answers requests until there are no more. What goes wrong is logged once, until it goes right again.
pub(super) async fn serve(mut runtime: Runtime, mut requests: mpsc::Receiver<Arc<CgroupContainer>>, inbox: Inbox) {
    let mut failing = false;
    while let Some(request) = requests.recv().await {
        let answer = match runtime.lookup(&request).await {
            Ok(found) => {
                failing = false;
                found.map_or(Lookup::Unknown, Lookup::Found)
            }
            Err(error) => {
                log(&error, std::mem::replace(&mut failing, true));
                Lookup::Failed
            }
        };
        tell(&inbox, Message::Input(Input::Container { id: Arc::clone(&request.id), answer })).await;
    }
}

fn log(error: &RuntimeError, again: bool) {
    if again {
        tracing::debug!(%error, "a container could not be asked for");
    } else {
        tracing::warn!(%error, "a container could not be asked for; its name and image are missing");
    }
}
