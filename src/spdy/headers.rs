//! The header block of a SYN_STREAM, after decompression.
//!
//! A count, and for each header the length of its name, the name, the length of its value and the
//! value. All numbers have 32 bits. Several values of a name are separated by NUL.

use super::frame::Fault;

/// The largest number of headers. Real streams have three.
const MAX_COUNT: usize = 16;

/// The length of the longest name.
const MAX_NAME: usize = 64;

/// The length of the longest value.
const MAX_VALUE: usize = 256;

/// The largest block, which is the most that is ever decompressed at once.
pub(crate) const MAX_UNPACKED: usize = 4 * 1024;

/// The headers of one stream, which borrow from their block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Headers<'a> {
    fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Headers<'a> {
    /// Reads a block.
    ///
    /// # Errors
    /// Fails if the block breaks a rule or a bound.
    pub(crate) fn read(block: &'a [u8]) -> Result<Self, Fault> {
        let mut rest = block;
        let count = number(&mut rest)? as usize;
        if count > MAX_COUNT {
            return Err(Fault::new("a stream has 16 headers at most"));
        }
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            let name = string(&mut rest, MAX_NAME)?;
            let value = string(&mut rest, MAX_VALUE)?;
            if name.is_empty() || name.iter().any(u8::is_ascii_uppercase) {
                return Err(Fault::new("the name of a header is in lower case"));
            }
            if fields.iter().any(|&(other, _)| other == name) {
                return Err(Fault::new("a header occurs once"));
            }
            fields.push((name, value));
        }
        if !rest.is_empty() {
            return Err(Fault::new("a header block ends with its last header"));
        }
        Ok(Self { fields })
    }

    /// Returns the first value of a header.
    pub(crate) fn get(&self, name: &str) -> Option<&'a [u8]> {
        let field = self.fields.iter().find(|(n, _)| *n == name.as_bytes());
        let value = field?.1;
        value.split(|&byte| byte == 0).next()
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, Fault> {
    let (bytes, after) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes))
}

fn string<'a>(rest: &mut &'a [u8], most: usize) -> Result<&'a [u8], Fault> {
    let length = number(rest)? as usize;
    if length > most {
        return Err(Fault::new(
            "a header has 64 bytes of name and 256 of value at most",
        ));
    }
    let (bytes, after) = rest.split_at_checked(length).ok_or(SHORT)?;
    *rest = after;
    Ok(bytes)
}

const SHORT: Fault = Fault::new("a header block is as long as its lengths say");

/// Builds a block. The other end of a test needs it: this end sends no headers.
#[cfg(test)]
pub(crate) fn write(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = (fields.len() as u32).to_be_bytes().to_vec();
    for (name, value) in fields {
        for string in [name, value] {
            out.extend((string.len() as u32).to_be_bytes());
            out.extend_from_slice(string.as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: [(&str, &str); 3] = [("streamtype", "data"), ("port", "80"), ("requestid", "0")];

    #[test]
    fn what_was_written_is_read() {
        let block = write(&STREAM);
        let headers = Headers::read(&block).unwrap();
        for (name, value) in STREAM {
            assert_eq!(headers.get(name), Some(value.as_bytes()));
        }
        assert_eq!(headers.get("host"), None);
        assert_eq!(Headers::read(&[0; 4]).unwrap().get("port"), None);
    }

    #[test]
    fn the_first_of_several_values_counts() {
        let block = write(&[("port", "80\x0081"), ("empty", "")]);
        let headers = Headers::read(&block).unwrap();
        assert_eq!(headers.get("port"), Some(&b"80"[..]));
        assert_eq!(headers.get("empty"), Some(&b""[..]));
    }

    #[test]
    fn a_block_cut_anywhere_is_refused_and_so_is_one_byte_more() {
        let mut block = write(&STREAM);
        for cut in 0..block.len() {
            assert!(Headers::read(&block[..cut]).is_err(), "{cut}");
        }
        block.push(0);
        assert!(Headers::read(&block).is_err());
    }

    #[test]
    fn bounds_just_inside_and_outside() {
        let names: Vec<_> = (0..=MAX_COUNT).map(|n| format!("n{n}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (&**name, "")).collect();
        assert!(Headers::read(&write(&fields[..MAX_COUNT])).is_ok());
        assert!(Headers::read(&write(&fields)).is_err());
        for (name, value, valid) in [
            (MAX_NAME, MAX_VALUE, true),
            (MAX_NAME + 1, 0, false),
            (1, MAX_VALUE + 1, false),
            (0, 1, false),
        ] {
            let block = write(&[(&"n".repeat(name), &"v".repeat(value))]);
            assert_eq!(Headers::read(&block).is_ok(), valid, "{name} {value}");
        }
        // Lengths for which there is no room anywhere.
        assert!(Headers::read(&[0xff; 64]).is_err());
        assert!(Headers::read(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn names_are_in_lower_case_and_occur_once() {
        assert!(Headers::read(&write(&[("Port", "80")])).is_err());
        assert!(Headers::read(&write(&[("port", "80"), ("port", "81")])).is_err());
    }
}
