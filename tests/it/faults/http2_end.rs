//! The end of a session's stream by the server over HTTP/2, read from its frames (RFC 9113, 4.1).

use super::outcome::Transported;

/// The stream of the session. Stream 1 has asked whether the server has begun.
const SESSION: u32 = 3;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Follows the frames of a server.
#[derive(Debug, Default)]
pub(super) struct Http2End {
    /// Bytes of a frame that is not complete.
    frame: Vec<u8>,
}

impl Http2End {
    pub(super) fn wrote(&mut self, bytes: &[u8], seen: &mut Transported) {
        self.frame.extend_from_slice(bytes);
        while let Some(head) = self.frame.first_chunk::<9>() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            let Some(body) = self.frame.get(9..9 + len) else {
                return;
            };
            if stream == SESSION {
                match kind {
                    DATA | HEADERS if flags & END_STREAM != 0 => seen.fin = true,
                    RST_STREAM => {
                        let code = body.first_chunk().expect("a code");
                        seen.reset = Some(u32::from_be_bytes(*code));
                    }
                    _ => {}
                }
            }
            self.frame.drain(..9 + len);
        }
    }
}
