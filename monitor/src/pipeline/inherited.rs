//! Who is over and not to be forgotten: what still runs goes on with their program, or under their login.

use postern_ebpf::abi::Inheritance;

use super::Pipeline;
use crate::process::to_tick;

impl Pipeline {
    /// Whether it is time to ask what each process that runs has from others: the answer is to come as
    /// [`super::Input::Inherited`].
    pub fn asks_for_inherited(&self, now_ns: u64) -> bool {
        self.processes.asks(now_ns) || self.entries.past.asks()
    }

    pub(super) fn inherited(&mut self, told: &[Inheritance], asked_ns: u64) {
        self.processes.retain(told.iter().map(|it| it.image), asked_ns);
        self.entries.past.retain(&told.iter().map(|it| to_tick(it.login)).collect());
    }
}
