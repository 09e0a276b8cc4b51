//! What a fanotify group hands over, taken apart (fanotify(7)): bytes to events, pure and total. The names in it are chosen by
//! whoever makes files on the node.

/// Bits of an event's mask, as the kernel has them (`linux/fanotify.h`).
pub mod mask {
    /// Owner, mode, times or the like.
    pub const ATTRIB: u64 = 0x4;
    /// A file that was open for writing was closed.
    pub const CLOSE_WRITE: u64 = 0x8;
    /// Moved away from this name.
    pub const MOVED_FROM: u64 = 0x40;
    /// Moved to this name.
    pub const MOVED_TO: u64 = 0x80;
    /// Made.
    pub const CREATE: u64 = 0x100;
    /// Removed.
    pub const DELETE: u64 = 0x200;
    /// Events were lost for want of room.
    pub const Q_OVERFLOW: u64 = 0x4000;
    /// Moved: both names (Linux 5.17).
    pub const RENAME: u64 = 0x1000_0000;
    /// It is a directory.
    pub const ONDIR: u64 = 0x4000_0000;
}

/// The version of the format that this reads, unchanged since Linux 2.6.37.
const VERSION: u8 = 3;
/// Length of `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// Length of `struct fanotify_event_info_header`, the file system's id, and what is in `struct file_handle` before the handle.
const BEFORE_HANDLE: usize = 4 + 8 + 8;
/// The longest handle (`MAX_HANDLE_SZ`), and the longest name.
const HANDLE_MAX: usize = 128;
const NAME_MAX: usize = 255;

/// A directory's handle and a name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file system, as `statfs(2)` numbers it.
    pub file_system: u64,
    /// What sort of handle it is: the file system's own business.
    pub handle_type: i32,
    /// The directory's handle.
    pub handle: &'a [u8],
    /// The name; `.` stands for the directory itself.
    pub name: &'a [u8],
}

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// What happened; several things where the kernel joined them.
    pub mask: u64,
    /// The process that did it, or 0 where it is not of this pid namespace.
    pub pid: u32,
    /// Where it is; for a move, where it went.
    pub place: Option<Place<'a>>,
    /// Where it was before it moved.
    pub from: Option<Place<'a>>,
}

/// Why bytes are no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes of the kernel's file events make no sense")]
pub struct Senseless(
    /// How many were left over.
    pub usize,
);

/// Each event in what one `read(2)` gave. Ends after the first that makes no sense, for nothing says where the next begins.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = Result<RawEvent<'_>, Senseless>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let left = rest.len();
        let Some((event, behind)) = event(rest) else {
            rest = &[];
            return Some(Err(Senseless(left)));
        };
        rest = behind;
        Some(Ok(event))
    })
}

fn event(bytes: &[u8]) -> Option<(RawEvent<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let head = usize::from(u16_at(bytes, 6)?);
    if length < METADATA || head < METADATA || head > length || *bytes.get(4)? != VERSION {
        return None;
    }
    let (own, behind) = bytes.split_at_checked(length)?;
    let mask = u64::from_ne_bytes(own.get(8..16)?.try_into().ok()?);
    let mut event = RawEvent { mask, pid: u32_at(own, 20)?, ..RawEvent::default() };
    let mut records = own.get(head..)?;
    while let Some((record, others)) = record(records)? {
        records = others;
        match record {
            Record::Place(place) => event.place = Some(place),
            Record::From(place) => event.from = Some(place),
            Record::Other => {}
        }
    }
    Some((event, behind))
}

enum Record<'a> {
    Place(Place<'a>),
    From(Place<'a>),
    /// One that nobody asked for.
    Other,
}

/// The first record of those that follow an event's metadata: `None` where they make no sense, nothing where there is none.
#[expect(clippy::option_option, reason = "no sense and no more are two answers")]
fn record(bytes: &[u8]) -> Option<Option<(Record<'_>, &[u8])>> {
    const DFID_NAME: u8 = 2;
    const DFID: u8 = 3;
    const OLD_DFID_NAME: u8 = 10;
    const NEW_DFID_NAME: u8 = 12;
    if bytes.is_empty() {
        return Some(None);
    }
    let length = usize::from(u16_at(bytes, 2)?);
    if length < 4 {
        return None;
    }
    let (own, others) = bytes.split_at_checked(length)?;
    let record = match *own.first()? {
        DFID_NAME | DFID | NEW_DFID_NAME => Record::Place(place(own)?),
        OLD_DFID_NAME => Record::From(place(own)?),
        _ => Record::Other,
    };
    Some(Some((record, others)))
}

fn place(record: &[u8]) -> Option<Place<'_>> {
    let file_system = u64::from(u32_at(record, 4)?) | u64::from(u32_at(record, 8)?) << 32;
    let length = usize::try_from(u32_at(record, 12)?).ok().filter(|length| *length <= HANDLE_MAX)?;
    let handle_type = i32::from_ne_bytes(record.get(16..20)?.try_into().ok()?);
    let (handle, behind) = record.get(BEFORE_HANDLE..)?.split_at_checked(length)?;
    // A zero ends the name, and more of them fill the record up. Without a name it is the directory itself.
    let name = behind.split(|byte| *byte == 0).next().filter(|name| name.len() <= NAME_MAX)?;
    Some(Place { file_system, handle_type, handle, name: if name.is_empty() { b"." } else { name } })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut body = [7u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat();
        body.extend((handle.len() as u32).to_ne_bytes());
        body.extend(1i32.to_ne_bytes());
        body.extend(handle);
        body.extend(name);
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
        let length = (body.len() + 4) as u16;
        [&[kind, 0][..], &length.to_ne_bytes(), &body].concat()
    }

    fn written(mask: u64, pid: u32, infos: &[Vec<u8>]) -> Vec<u8> {
        let infos = infos.concat();
        let mut bytes = ((METADATA + infos.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend((METADATA as u16).to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend((-1i32).to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(infos);
        bytes
    }

    #[test]
    fn events_carry_their_places_and_records_of_other_kinds_are_passed_over() {
        let bytes = [
            written(mask::CREATE, 17, &[info(1, b"other", b""), info(2, b"handle", b"passwd")]),
            written(mask::RENAME, 18, &[info(10, b"from", b"old"), info(12, b"to", b"new")]),
            written(mask::Q_OVERFLOW, 0, &[]),
            written(mask::ATTRIB, 19, &[info(3, b"folder", b"")]),
        ]
        .concat();
        let events: Vec<RawEvent<'_>> = events(&bytes).collect::<Result<_, _>>().expect("sense");
        let place = |handle, name| Place { file_system: 7 | 9 << 32, handle_type: 1, handle, name };
        let expected = [
            RawEvent { mask: mask::CREATE, pid: 17, place: Some(place(b"handle", b"passwd")), from: None },
            RawEvent {
                mask: mask::RENAME,
                pid: 18,
                place: Some(place(b"to", b"new")),
                from: Some(place(b"from", b"old")),
            },
            RawEvent { mask: mask::Q_OVERFLOW, ..RawEvent::default() },
            RawEvent { mask: mask::ATTRIB, pid: 19, place: Some(place(b"folder", b".")), from: None },
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn what_makes_no_sense_ends_it_and_is_said() {
        let good = written(mask::CREATE, 1, &[info(2, b"h", b"n")]);
        let mut long_handle = good.clone();
        long_handle[METADATA + 12] = 200;
        let mut other_version = good.clone();
        other_version[4] = 4;
        let mut endless = good.clone();
        (endless[METADATA + 2], endless[METADATA + 3]) = (0, 0);
        for bad in [long_handle, other_version, endless, good[..good.len() - 1].to_vec()] {
            let bytes = [&good[..], &bad].concat();
            let found: Vec<_> = events(&bytes).collect();
            assert!(matches!(found[..], [Ok(_), Err(Senseless(left))] if left == bad.len()), "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let count = events(&bytes).count();
            prop_assert!(count <= bytes.len() / METADATA + 1);
        }

        #[test]
        fn one_byte_changed_is_borne(at in 0usize..120, byte: u8) {
            let mut bytes = written(mask::RENAME, 18, &[info(10, b"from", b"old"), info(12, b"to", b"new")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            prop_assert!(events(&bytes).count() >= 1);
        }
    }
}
