//! What the agent says of itself, under `postern.*`.

use crate::{
    event::{AgentEvent, Body, Counters, Loss, LossCause},
    sink::encode::json::Object,
};

/// `event.reason` of an agent's event.
pub(super) fn reason(body: &Body) -> Option<&str> {
    let Body::Agent(agent) = body else { return None };
    match &**agent {
        AgentEvent::Stopped { reason, .. } | AgentEvent::Lost(Loss { cause: LossCause::Sink { reason, .. }, .. }) => {
            Some(reason)
        }
        _ => None,
    }
}

/// The fields that belong to `agent`, under `postern`.
pub(super) fn own(agent: &AgentEvent, fields: &mut Object<'_>) {
    match agent {
        AgentEvent::Started { sensors, missing } => {
            fields.texts("sensors", sensors);
            fields.texts("missing", missing);
        }
        AgentEvent::Stopped { counters, .. } | AgentEvent::Counted(counters) => {
            fields.objects("counters", counters, self::counters);
        }
        AgentEvent::Lost(loss) => fields.object("loss", |fields| {
            fields.number("count", loss.count);
            match &loss.cause {
                LossCause::Ring => fields.text("cause", "ring"),
                LossCause::Malformed => fields.text("cause", "malformed"),
                LossCause::Files => fields.text("cause", "files"),
                LossCause::Sink { name, .. } => {
                    fields.text("cause", "sink");
                    fields.text("sink", name);
                }
            }
        }),
        AgentEvent::Changed { .. } => {}
    }
}

fn counters(fields: &mut Object<'_>, counters: &Counters) {
    fields.text("hook", &counters.hook);
    fields.number("seen", counters.seen);
    fields.number("submitted", counters.submitted);
    fields.number("filtered", counters.filtered);
    fields.number("rate_limited", counters.rate_limited);
    fields.number("lost", counters.lost);
    fields.number("received", counters.received);
}
