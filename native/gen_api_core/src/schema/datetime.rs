//! ISO 8601 dates and times, in the grammar of Elixir's `Calendar.ISO` (extended format).

/// A date and time, and its fraction of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// The astronomical year: 0 is 1 BC.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Millionths of a second.
    pub microsecond: u32,
    /// How many digits of them were given, 0 to 6.
    pub precision: u8,
}

/// Why a text is no date or time; the names are those of Elixir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not of the form.
    InvalidFormat,
    /// No such day.
    InvalidDate,
    /// No such time of day.
    InvalidTime,
    /// No offset where one is needed.
    MissingOffset,
}

impl DateTime {
    /// The same moment in UTC, of a local time `offset` seconds east of it. `None` when a
    /// field is out of its range.
    pub fn to_utc(self, offset: i32) -> Option<Self> {
        let valid = (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
            && offset.unsigned_abs() < 86_400
            && self.year.unsigned_abs() < 1_000_000;
        valid.then(|| shift(self, offset))
    }
}

/// Parses a date and time with an offset into UTC.
pub fn parse_utc(text: &[u8]) -> Result<DateTime, ParseError> {
    let (local, offset) = parse(text)?;
    let offset = offset.ok_or(ParseError::MissingOffset)?;
    Ok(shift(local, offset))
}

/// Parses a date and time; an offset may be there and is ignored.
pub fn parse_naive(text: &[u8]) -> Result<DateTime, ParseError> {
    parse(text).map(|(local, _offset)| local)
}

/// Parses a date; the time of day is midnight.
pub fn parse_date(text: &[u8]) -> Result<DateTime, ParseError> {
    match read_date(text)? {
        (date, []) => valid(date),
        _ => Err(ParseError::InvalidFormat),
    }
}

/// Parses a time of day; an offset may be there and is ignored. The date means nothing.
pub fn parse_time(text: &[u8]) -> Result<DateTime, ParseError> {
    let text = text.strip_prefix(b"T").unwrap_or(text);
    let (time, _offset) = read_time(MIDNIGHT, text)?;
    valid(time)
}

fn parse(text: &[u8]) -> Result<(DateTime, Option<i32>), ParseError> {
    let (date, rest) = read_date(text)?;
    let [b' ' | b'T', rest @ ..] = rest else {
        return Err(ParseError::InvalidFormat);
    };
    let (local, offset) = read_time(date, rest)?;
    Ok((valid(local)?, offset))
}

const MIDNIGHT: DateTime = DateTime {
    year: 0,
    month: 1,
    day: 1,
    hour: 0,
    minute: 0,
    second: 0,
    microsecond: 0,
    precision: 0,
};

/// A date, whether there is such a day or not, and the rest.
fn read_date(text: &[u8]) -> Result<(DateTime, &[u8]), ParseError> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, rest @ ..] = text else {
        return Err(ParseError::InvalidFormat);
    };
    let year = i32::from(pair(*y1, *y2)?) * 100 + i32::from(pair(*y3, *y4)?);
    let date = DateTime {
        year: if negative { -year } else { year },
        month: pair(*mo1, *mo2)?,
        day: pair(*d1, *d2)?,
        ..MIDNIGHT
    };
    Ok((date, rest))
}

/// That date with a time of day, whether there is such a time or not, and the offset.
fn read_time(date: DateTime, text: &[u8]) -> Result<(DateTime, Option<i32>), ParseError> {
    let [h1, h2, b':', mi1, mi2, b':', s1, s2, rest @ ..] = text else {
        return Err(ParseError::InvalidFormat);
    };
    let (microsecond, precision, rest) = fraction(rest)?;
    let local = DateTime {
        hour: pair(*h1, *h2)?,
        minute: pair(*mi1, *mi2)?,
        second: pair(*s1, *s2)?,
        microsecond,
        precision,
        ..date
    };
    Ok((local, offset(rest)?))
}

fn valid(at: DateTime) -> Result<DateTime, ParseError> {
    if !(1..=12).contains(&at.month) || at.day < 1 || at.day > days_in_month(at.year, at.month) {
        return Err(ParseError::InvalidDate);
    }
    if at.hour > 23 || at.minute > 59 || at.second > 59 {
        return Err(ParseError::InvalidTime);
    }
    Ok(at)
}

fn digit(byte: u8) -> Result<u8, ParseError> {
    if byte.is_ascii_digit() {
        Ok(byte - b'0')
    } else {
        Err(ParseError::InvalidFormat)
    }
}

fn pair(tens: u8, ones: u8) -> Result<u8, ParseError> {
    Ok(digit(tens)? * 10 + digit(ones)?)
}

/// The millionths, how many digits count, and the rest. Digits after the sixth are dropped.
fn fraction(text: &[u8]) -> Result<(u32, u8, &[u8]), ParseError> {
    let [b'.' | b',', digits @ ..] = text else {
        return Ok((0, 0, text));
    };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(count).unwrap_or((digits, &[]));
    if digits.is_empty() {
        return Err(ParseError::InvalidFormat);
    }
    let mut microsecond = 0;
    let mut precision = 0;
    for place in 0..6 {
        microsecond *= 10;
        if let Some(byte) = digits.get(place) {
            microsecond += u32::from(byte - b'0');
            precision += 1;
        }
    }
    Ok((microsecond, precision, rest))
}

/// Seconds east of UTC, `None` when nothing is left to read.
fn offset(text: &[u8]) -> Result<Option<i32>, ParseError> {
    let (sign, hours, minutes) = match text {
        [] => return Ok(None),
        [b'Z'] => return Ok(Some(0)),
        // RFC 3339 gives this one a meaning of its own: the local offset is unknown.
        b"-00:00" => return Err(ParseError::InvalidFormat),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            (*sign, pair(*h1, *h2)?, pair(*m1, *m2)?)
        }
        [sign, h1, h2] => (*sign, pair(*h1, *h2)?, 0),
        _ => return Err(ParseError::InvalidFormat),
    };
    if hours > 23 || minutes > 59 {
        return Err(ParseError::InvalidFormat);
    }
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    match sign {
        b'+' => Ok(Some(seconds)),
        b'-' => Ok(Some(-seconds)),
        _ => Err(ParseError::InvalidFormat),
    }
}

fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// An offset is less than a day, so at most one day boundary is crossed.
fn shift(local: DateTime, offset: i32) -> DateTime {
    let of_day =
        i32::from(local.hour) * 3600 + i32::from(local.minute) * 60 + i32::from(local.second)
            - offset;
    let (mut year, mut month, mut day) = (local.year, local.month, local.day);
    if of_day < 0 {
        day -= 1;
        if day == 0 {
            (year, month) = if month == 1 {
                (year - 1, 12)
            } else {
                (year, month - 1)
            };
            day = days_in_month(year, month);
        }
    } else if of_day >= 86_400 {
        day += 1;
        if day > days_in_month(year, month) {
            day = 1;
            (year, month) = if month == 12 {
                (year + 1, 1)
            } else {
                (year, month + 1)
            };
        }
    }
    let of_day = of_day.rem_euclid(86_400);
    let part = |seconds: i32, modulus: i32| u8::try_from(seconds % modulus).unwrap_or(0);
    DateTime {
        year,
        month,
        day,
        hour: part(of_day / 3600, 24),
        minute: part(of_day / 60, 60),
        second: part(of_day, 60),
        ..local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Result<String, ParseError> {
        parse_utc(text.as_bytes()).map(|d| {
            format!(
                "{}-{:02}-{:02} {:02}:{:02}:{:02} {}/{}",
                d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond, d.precision
            )
        })
    }

    #[test]
    fn an_offset_is_taken_off_across_days_months_and_years() {
        for (text, expected) in [
            ("2015-01-23T23:50:07Z", "2015-01-23 23:50:07 0/0"),
            (
                "2015-01-23 23:50:07.1234567-02:30",
                "2015-01-24 02:20:07 123456/6",
            ),
            (
                "2015-01-23T23:50:07,5+23:59",
                "2015-01-22 23:51:07 500000/1",
            ),
            ("2016-02-29T23:59:59-0001", "2016-03-01 00:00:59 0/0"),
            ("2016-03-01T00:00:00+01", "2016-02-29 23:00:00 0/0"),
            ("0000-01-01T00:00:00+10:00", "-1-12-31 14:00:00 0/0"),
            ("9999-12-31T23:59:59-10:00", "10000-01-01 09:59:59 0/0"),
            ("-2015-01-23T23:50:07-0000", "-2015-01-23 23:50:07 0/0"),
        ] {
            assert_eq!(utc(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_date_and_a_time_stand_by_themselves() {
        use ParseError::*;
        let date = |text: &str| parse_date(text.as_bytes()).map(|d| (d.year, d.month, d.day));
        for (text, expected) in [
            ("2015-01-23", Ok((2015, 1, 23))),
            ("+2016-02-29", Ok((2016, 2, 29))),
            ("-0001-12-31", Ok((-1, 12, 31))),
            ("2015-02-29", Err(InvalidDate)),
            ("2015-13-01", Err(InvalidDate)),
            ("2015-1-23", Err(InvalidFormat)),
            ("2015-01-23T00:00:00", Err(InvalidFormat)),
            ("", Err(InvalidFormat)),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
        let time = |text: &str| {
            parse_time(text.as_bytes())
                .map(|t| (t.hour, t.minute, t.second, t.microsecond, t.precision))
        };
        for (text, expected) in [
            ("23:50:07", Ok((23, 50, 7, 0, 0))),
            ("T23:50:07.05Z", Ok((23, 50, 7, 50_000, 2))),
            ("00:00:00,1234567+02:00", Ok((0, 0, 0, 123_456, 6))),
            ("24:00:00", Err(InvalidTime)),
            ("23:50:60", Err(InvalidTime)),
            ("23:50", Err(InvalidFormat)),
            ("23:50:07.", Err(InvalidFormat)),
            ("TT23:50:07", Err(InvalidFormat)),
            ("2015-01-23T23:50:07", Err(InvalidFormat)),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        use ParseError::*;
        for (text, error) in [
            ("2015-01-23T23:50:07", MissingOffset),
            ("2015-02-30T25:50:07", InvalidDate),
            ("2015-01-23T24:00:00Z", InvalidTime),
            ("2015-01-23T23:50:60Z", InvalidTime),
            ("2015-01-23T23:50:07-00:00", InvalidFormat),
            ("2015-01-23T23:50:07+24:00", InvalidFormat),
            ("2015-01-23T23:50:07.Z", InvalidFormat),
            ("2015-01-23t23:50:07Z", InvalidFormat),
            ("2015-01-23T23:50Z", InvalidFormat),
            ("", InvalidFormat),
        ] {
            assert_eq!(utc(text), Err(error), "{text}");
        }
    }
}
