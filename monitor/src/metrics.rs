//! The agent's figures and their exposition. The hot path only adds to atomics; names, help texts and labels exist
//! only while somebody reads `/metrics`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::event::Kind;

/// One number. Ordering does not matter: each is read on its own.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Takes over a number that is counted elsewhere, or a level.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything that is counted. Shared by the whole agent.
#[derive(Debug)]
pub struct Figures {
    /// In the order given to [`Figures::new`].
    pub hooks: Vec<HookFigures>,
    /// In the order given to [`Figures::new`].
    pub sinks: Vec<SinkFigures>,
    /// Records that never reached user space: holes in the sequence numbers.
    pub lost_in_ring: Figure,
    /// Records that could not be decoded.
    pub malformed: Figure,
    /// Events that went out without all that could have been known.
    pub partial: Figure,
    /// Times that the ring was drained.
    pub ring_drains: Figure,
    /// The ring's size in bytes.
    pub ring_bytes: Figure,
    /// The most bytes that were taken from the ring at once.
    pub ring_peak_bytes: Figure,
    /// Processes in the process table.
    pub processes: Figure,
    /// Access sessions that are open.
    pub sessions: Figure,
    /// Pods of this node that are known.
    pub pods: Figure,
    /// File systems that are marked: none while nobody is on the node.
    pub file_systems: Figure,
    /// Events of files that the kernel handed over.
    pub files_seen: Figure,
    /// Those of processes that nobody knows any more.
    pub files_unknown: Figure,
    /// How often the kernel's queue of them was full.
    pub files_lost: Figure,
    events: [Figure; KINDS.len()],
    started: u64,
}

/// One hook's figures: `seen = submitted + filtered + rate_limited + lost`.
#[derive(Debug, Default)]
pub struct HookFigures {
    name: String,
    /// Times that it ran.
    pub seen: Figure,
    /// Records that it handed over.
    pub submitted: Figure,
    /// Not of interest, and known so in the kernel.
    pub filtered: Figure,
    /// Held back by a rate limit.
    pub rate_limited: Figure,
    /// Lost for want of room.
    pub lost: Figure,
    /// Processes that the kernel's table had no room for.
    pub untracked: Figure,
    /// Records that user space received.
    pub received: Figure,
}

/// One sink's figures.
#[derive(Debug, Default)]
pub struct SinkFigures {
    name: String,
    /// Events that wait for it.
    pub queued_events: Figure,
    /// Bytes of encoded events that wait for it.
    pub queued_bytes: Figure,
    /// Events that it took, and acknowledged where it can.
    pub delivered: Figure,
    /// Events that its queue had no room for.
    pub dropped: Figure,
    /// Attempts to deliver after one that failed.
    pub retries: Figure,
    /// 1 where the last attempt succeeded, else 0.
    pub up: Figure,
}

const KINDS: [Kind; 4] = [Kind::Event, Kind::Alert, Kind::Metric, Kind::State];

impl Figures {
    /// Figures that are all zero, for these hooks and sinks.
    pub fn new<'a>(hooks: impl IntoIterator<Item = &'a str>, sinks: impl IntoIterator<Item = &'a str>) -> Self {
        let hook = |name: &str| HookFigures { name: name.to_owned(), ..HookFigures::default() };
        let sink = |name: &str| SinkFigures { name: name.to_owned(), ..SinkFigures::default() };
        Self {
            hooks: hooks.into_iter().map(hook).collect(),
            sinks: sinks.into_iter().map(sink).collect(),
            lost_in_ring: Figure::default(),
            malformed: Figure::default(),
            partial: Figure::default(),
            ring_drains: Figure::default(),
            ring_bytes: Figure::default(),
            ring_peak_bytes: Figure::default(),
            processes: Figure::default(),
            sessions: Figure::default(),
            pods: Figure::default(),
            file_systems: Figure::default(),
            files_seen: Figure::default(),
            files_unknown: Figure::default(),
            files_lost: Figure::default(),
            events: Default::default(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }

    /// The count of events of one kind.
    pub fn events(&self, kind: Kind) -> &Figure {
        match kind {
            Kind::Event => &self.events[0],
            Kind::Alert => &self.events[1],
            Kind::Metric => &self.events[2],
            Kind::State => &self.events[3],
        }
    }
}

/// The media type of [`exposition`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All figures in the `OpenMetrics` 1.0 text format, which Prometheus reads.
pub fn exposition(figures: &Arc<Figures>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("postern");
    registry.register_collector(Box::new(Arc::clone(figures)));
    let mut body = String::new();
    text::encode(&mut body, &registry)?;
    Ok(body)
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(&mut encoder);
        page.gauge("start_time", "When the agent started, since the epoch.", Some(&Unit::Seconds), self.started)?;
        page.info("build", "What is running.", &[("version", env!("CARGO_PKG_VERSION"))])?;
        self.encode_hooks(&mut page)?;
        self.encode_sinks(&mut page)?;
        let events = KINDS.map(|kind| (kind.as_str(), self.events(kind)));
        page.counters("events", "Events that the agent made.", "kind", events)?;
        let dropped = Figure::default();
        dropped.set(self.sinks.iter().map(|sink| sink.dropped.get()).sum());
        let causes = [
            ("ring", &self.lost_in_ring),
            ("malformed", &self.malformed),
            ("files", &self.files_lost),
            ("sink", &dropped),
        ];
        page.counters("lost_events", "Events that existed and were not delivered.", "cause", causes)?;
        page.counter("partial_events", "Events that lack something that could have been known.", &self.partial)?;
        page.counter("ring_drains", "Times that the kernel's ring was drained.", &self.ring_drains)?;
        let bytes = Some(&Unit::Bytes);
        page.gauge("ring_size", "Size of the kernel's ring.", bytes, self.ring_bytes.get())?;
        page.gauge(
            "ring_peak",
            "The most that was taken from the kernel's ring at once.",
            bytes,
            self.ring_peak_bytes.get(),
        )?;
        page.gauge("processes", "Processes in the process table.", None, self.processes.get())?;
        page.gauge("sessions", "Access sessions that are open.", None, self.sessions.get())?;
        page.gauge("pods", "Pods of this node that are known.", None, self.pods.get())?;
        self.encode_files(&mut page)
    }
}

impl Figures {
    fn encode_files(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        page.gauge("file_systems", "File systems that are marked for file events.", None, self.file_systems.get())?;
        page.counter("file_seen", "Events of files that the kernel handed over.", &self.files_seen)?;
        page.counter("file_unknown", "Those of processes that nobody knows any more.", &self.files_unknown)
    }

    fn encode_hooks(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        type Column = fn(&HookFigures) -> &Figure;
        let columns: [(&str, &str, Column); 7] = [
            ("hook_seen", "Times that a hook ran.", |hook| &hook.seen),
            ("hook_submitted", "Records that a hook handed over.", |hook| &hook.submitted),
            ("hook_filtered", "Times that a hook saw nothing of interest.", |hook| &hook.filtered),
            ("hook_rate_limited", "Records that a rate limit held back.", |hook| &hook.rate_limited),
            ("hook_lost", "Records that the kernel had no room for.", |hook| &hook.lost),
            ("hook_untracked", "Processes that the kernel's table had no room for.", |hook| &hook.untracked),
            ("hook_received", "Records that the agent received.", |hook| &hook.received),
        ];
        for (name, help, column) in columns {
            page.counters(name, help, "hook", self.hooks.iter().map(|hook| (&*hook.name, column(hook))))?;
        }
        Ok(())
    }

    fn encode_sinks(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        type Column = fn(&SinkFigures) -> &Figure;
        let counters: [(&str, &str, Column); 3] = [
            ("sink_delivered_events", "Events that a sink took.", |sink| &sink.delivered),
            ("sink_dropped_events", "Events that a sink's queue had no room for.", |sink| &sink.dropped),
            ("sink_retries", "Attempts to deliver after one that failed.", |sink| &sink.retries),
        ];
        for (name, help, column) in counters {
            page.counters(name, help, "sink", self.sinks.iter().map(|sink| (&*sink.name, column(sink))))?;
        }
        let gauges: [(&str, &str, Option<&Unit>, Column); 3] = [
            ("sink_queued_events", "Events that wait for a sink.", None, |sink| &sink.queued_events),
            ("sink_queue", "What waits for a sink, encoded.", Some(&Unit::Bytes), |sink| &sink.queued_bytes),
            ("sink_up", "Whether the last attempt to deliver succeeded.", None, |sink| &sink.up),
        ];
        for (name, help, unit, column) in gauges {
            page.gauges(name, help, unit, "sink", self.sinks.iter().map(|sink| (&*sink.name, column(sink))))?;
        }
        Ok(())
    }
}

/// Writes metrics, each with all of its labels at once, as the format wants it.
struct Page<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Page<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, figure: &Figure) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&figure.get(), None)
    }

    fn counters<'f>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        figures: impl IntoIterator<Item = (&'f str, &'f Figure)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, figure) in figures {
            metric.encode_family(&[(label, value)])?.encode_counter::<NoLabelSet, _, u64>(&figure.get(), None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<'f>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        figures: impl IntoIterator<Item = (&'f str, &'f Figure)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (value, figure) in figures {
            metric.encode_family(&[(label, value)])?.encode_gauge(&figure.get())?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_holds_every_figure_under_its_name() {
        let figures = Arc::new(Figures::new(["exec", "fork"], ["stdout-1"]));
        figures.hooks[0].seen.add(5);
        figures.hooks[0].lost.set(2);
        figures.sinks[0].dropped.add(3);
        figures.sinks[0].queued_bytes.set(4096);
        figures.events(Kind::Alert).add(1);
        figures.lost_in_ring.add(2);
        figures.pods.set(7);
        let page = exposition(&figures).expect("an exposition");
        for line in [
            "# HELP postern_hook_seen Times that a hook ran.",
            "# TYPE postern_hook_seen counter",
            "postern_hook_seen_total{hook=\"exec\"} 5",
            "postern_hook_seen_total{hook=\"fork\"} 0",
            "postern_hook_lost_total{hook=\"exec\"} 2",
            "postern_sink_dropped_events_total{sink=\"stdout-1\"} 3",
            "postern_sink_queue_bytes{sink=\"stdout-1\"} 4096",
            "postern_sink_up{sink=\"stdout-1\"} 0",
            "postern_events_total{kind=\"alert\"} 1",
            "postern_lost_events_total{cause=\"ring\"} 2",
            "postern_lost_events_total{cause=\"sink\"} 3",
            "postern_ring_drains_total 0",
            "postern_pods 7",
            concat!("postern_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "no {line:?} in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        let started = page.lines().find_map(|line| line.strip_prefix("postern_start_time_seconds ")).expect("a start");
        assert!(started.parse::<u64>().is_ok(), "{started}");
    }

    /// Prometheus takes one block a metric, and no sample twice.
    #[test]
    fn every_metric_has_one_block_and_a_help_text() {
        let figures = Arc::new(Figures::new(["exec"], ["a", "b"]));
        let page = exposition(&figures).expect("an exposition");
        let names = |keyword: &str| -> Vec<&str> {
            page.lines().filter_map(|line| line.strip_prefix(keyword)?.split(' ').next()).collect()
        };
        let (mut types, helps) = (names("# TYPE "), names("# HELP "));
        assert_eq!(types, helps);
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), helps.len());
        assert!(types.iter().all(|name| name.starts_with("postern_")), "{types:?}");
    }
}
