//! Durations as Kubernetes' command lines write them.

use std::time::Duration;

/// Reads `4h`, `1m30s`, `500ms`; `none` and `0` are no duration. `Err` if it is
/// something else, or longer than a `Duration` can be.
pub(crate) fn parse(text: &str) -> Result<Option<Duration>, ()> {
    if text == "none" || text == "0" {
        return Ok(None);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| ())?;
        total = of(number, unit)
            .and_then(|part| total.checked_add(part))
            .ok_or(())?;
        if after.is_empty() {
            return Ok(Some(total).filter(|total| !total.is_zero()));
        }
        rest = after;
    }
}

fn of(number: u64, unit: &str) -> Option<Duration> {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    let seconds = |unit| number.checked_mul(unit).map(Duration::from_secs);
    match unit {
        "h" => seconds(HOUR),
        "m" => seconds(MINUTE),
        "s" => seconds(1),
        "ms" => Some(Duration::from_millis(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, millis) in [
            ("4h", 4 * 3_600_000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h2m3s4ms", 3_723_004),
            ("007s", 7000),
        ] {
            assert_eq!(
                parse(text),
                Ok(Some(Duration::from_millis(millis))),
                "{text}"
            );
        }
    }

    #[test]
    fn none_and_nothing_are_none() {
        for text in ["none", "0", "0s", "0h0m"] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            "4",
            "h",
            "4x",
            "4H",
            "-4h",
            "+4h",
            "4 h",
            "1.5h",
            "4h ",
            "1m30",
            "none1s",
            "\u{664}h",
            "18446744073709551615h",
            "18446744073709551616s",
            "18446744073709551615s1s",
        ] {
            assert_eq!(parse(text), Err(()), "{text}");
        }
    }
}
