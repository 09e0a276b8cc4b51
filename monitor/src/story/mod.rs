//! What happened, read back from the stream: lines of JSON become sessions, and a session becomes a tree that a person can
//! read. Knows nothing of where the lines come from. They were written by an agent, but whoever could write to the file could
//! change them: each is bounded, and none is believed to be whole.

mod seen;
mod sessions;
mod tree;

pub use seen::Seen;
pub(crate) use sessions::next_line;
pub use sessions::{Collected, Filter, Story, StorySession, collect};
pub(crate) use tree::cut;
pub use tree::{Style, write as write_tree};
