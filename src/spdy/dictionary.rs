//! The dictionary of SPDY/3, which every compressed stream of headers begins with.
//!
//! It consists of names and values that were frequent in HTTP when SPDY was new, in the form of a
//! header block, and of words that follow one another.

/// The Adler-32 of the dictionary, by which a zlib stream names it.
pub(crate) const ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];

/// The names and values, each of which has its length in front.
#[rustfmt::skip]
const FIELDS: [&str; 65] = [
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset",
    "accept-encoding", "accept-language", "accept-ranges", "age", "allow", "authorization",
    "cache-control", "connection", "content-base", "content-encoding", "content-language",
    "content-length", "content-location", "content-md5", "content-range", "content-type", "date",
    "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match",
    "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "pragma",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te",
    "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url", "public",
    "set-cookie", "keep-alive", "origin",
];

/// The words.
#[rustfmt::skip]
const WORDS: [&str; 8] = [
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request",
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented",
    "503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,",
    "text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch",
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
];

/// The dictionary.
pub(crate) static DICTIONARY: [u8; 1423] = {
    let mut out = [0; 1423];
    let mut at = 0;
    let mut n = 0;
    while n < FIELDS.len() {
        at = put(&mut out, at, &(FIELDS[n].len() as u32).to_be_bytes());
        at = put(&mut out, at, FIELDS[n].as_bytes());
        n += 1;
    }
    n = 0;
    while n < WORDS.len() {
        at = put(&mut out, at, WORDS[n].as_bytes());
        n += 1;
    }
    assert!(at == out.len());
    out
};

/// Copies bytes to `at`, and returns their end.
const fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    out.split_at_mut(end)
        .0
        .split_at_mut(at)
        .1
        .copy_from_slice(bytes);
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_checksum_that_names_it() {
        // Adler-32 (RFC 1950, 9).
        let (mut a, mut b) = (1, 0);
        for byte in DICTIONARY {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16 | a).to_be_bytes(), ID);
    }
}
