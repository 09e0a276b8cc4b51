//! The reading end of the ring. The kernel side wakes it when it may be asleep, when much is waiting, and for what is
//! urgent; in between it is drained on a timer.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use aya::maps::{Array, Map, MapData, MapError, RingBuf};
use rustix::event::{Timespec, epoll};

/// Yields records in the order in which room for them was taken.
pub struct Ring {
    records: RingBuf<MapData>,
    announced: OwnedFd,
    last_wake: Array<MapData, u64>,
}

impl Ring {
    /// After a wake-up, how long ordinary records go unannounced: whoever was woken must go on draining for at least
    /// this long.
    pub const QUIET: Duration = Duration::from_millis(100);

    pub(super) fn new(ring: Map, last_wake: Map) -> Result<Self, MapError> {
        let (records, last_wake) = (RingBuf::try_from(ring)?, Array::try_from(last_wake)?);
        let announced = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&announced, &records, data, epoll::EventFlags::IN | epoll::EventFlags::ET)
            .map_err(io::Error::from)?;
        Ok(Self { records, announced, last_wake })
    }

    /// Ready when the kernel side has woken this end since [`Ring::heard`], while the ring itself is ready for every record.
    pub fn announced(&self) -> BorrowedFd<'_> {
        self.announced.as_fd()
    }

    /// Makes [`Ring::announced`] wait for the next time.
    pub fn heard(&self) {
        let mut event = [MaybeUninit::uninit()];
        // Nothing can go wrong with an open descriptor; at worst the ring is drained once more.
        let _ = epoll::wait(&self.announced, &mut event, Some(&Timespec::default()));
    }

    /// Tells the kernel side that this end goes on draining by itself for [`Ring::QUIET`] from `now_ns` on (nanoseconds since
    /// boot), as if it had been woken then.
    pub fn stay_awake(&mut self, now_ns: u64) {
        // At worst this end is woken although it is awake.
        let _ = self.last_wake.set(0, now_ns, 0);
    }

    /// Hands up to `most` records to `take`; returns how many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < most {
            let Some(record) = self.records.next() else { break };
            take(&record);
            count += 1;
        }
        count
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }
}
