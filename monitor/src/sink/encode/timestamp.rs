//! Times as RFC 3339 has them. An event has up to six, so they are formatted by hand: jiff's formatter, which knows
//! every option, takes several times as long.

use std::io::Write as _;

use jiff::Timestamp;

use super::json::room;

/// The digits of each number below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends `value` as RFC 3339 has it, in UTC and with nanoseconds.
pub(super) fn write(out: &mut Vec<u8>, value: Timestamp) {
    const DAY: i64 = 86_400;
    let (seconds, nanoseconds) = (value.as_second(), value.subsec_nanosecond());
    let Some((year, month, day)) = civil(seconds.div_euclid(DAY)).filter(|_| seconds >= 0) else {
        let _ = write!(out, "{value:.9}");
        return;
    };
    let of_day = seconds.rem_euclid(DAY) as u32;
    let nanoseconds = nanoseconds.unsigned_abs();
    let Some(text) = room(out, *b"0000-00-00T00:00:00.000000000Z") else { return };
    pair::<0>(text, year / 100);
    pair::<2>(text, year);
    pair::<5>(text, month);
    pair::<8>(text, day);
    pair::<11>(text, of_day / 3_600);
    pair::<14>(text, of_day / 60 % 60);
    pair::<17>(text, of_day % 60);
    // Each of them by itself, so that none waits for another.
    pair::<20>(text, nanoseconds / 10_000_000);
    pair::<22>(text, nanoseconds / 100_000);
    pair::<24>(text, nanoseconds / 1_000);
    pair::<26>(text, nanoseconds / 10);
    text[28] = b'0' + (nanoseconds % 10) as u8;
}

/// Puts the last two digits of a number at `AT`.
fn pair<const AT: usize>(text: &mut [u8; 30], number: u32) {
    text[AT..AT + 2].copy_from_slice(&PAIRS[number as usize % 100]);
}

/// Year, month and day of a day counted from 1970-01-01; `None` outside the years 1970 to 9999. Years are counted from
/// March, so that the leap day is a year's last and every month before it begins at a fixed place.
fn civil(day: i64) -> Option<(u32, u32, u32)> {
    const DAYS_FROM_MARCH_0000: u32 = 719_468;
    const FOUR_CENTURIES: u32 = 146_097;
    const LAST: i64 = 2_932_896;
    let day = u32::try_from(day).ok().filter(|day| i64::from(*day) <= LAST)? + DAYS_FROM_MARCH_0000;
    let (era, day) = (day / FOUR_CENTURIES, day % FOUR_CENTURIES);
    let year = (day - day / 1_460 + day / 36_524 - day / (FOUR_CENTURIES - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    Some((era * 400 + year + next, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_time_is_what_jiff_makes_of_it(second in -377_705_023_201_i64..=253_402_207_200, nanosecond in 0..1_000_000_000) {
            let time = Timestamp::new(second, nanosecond).expect("in range");
            let mut out = Vec::new();
            write(&mut out, time);
            proptest::prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("{time:.9}"));
        }
    }

    #[test]
    fn every_day_of_eight_centuries_is_what_jiff_makes_of_it() {
        for day in 0..292_194_i64 {
            let date = Timestamp::from_second(day * 86_400).expect("in range").to_string();
            let (year, month, day) = civil(day).expect("in range");
            assert_eq!(format!("{year:04}-{month:02}-{day:02}"), date[..10]);
        }
    }
}
