//! A recorded session: kubectl 1.33.1 against the tunnel of a Go server. One `curl` of port 9000, a
//! local connection that sends 20 bytes and is reset, 12 seconds of silence, and Ctrl-C.
//!
//! kubectl cuts its frames into messages of 1 to 4 bytes; here they are whole.

/// The client's frames, as hex.
pub(crate) const UP: [&str; 12] = [
    "800300010000003e0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c60696060c0c0c0c0590489c64c50f2663400000000ffff",
    "0000000101000000",
    "800300010000001a00000003000000000000826a26ac0ad57850499508000000ffff",
    "0000000300000051474554202f686920485454502f312e310d0a486f73743a203132372e302e302e313a31393030300d0a557365722d4167656e743a206375726c2f372e38382e310d0a4163636570743a202a2f2a0d0a0d0a",
    "0000000301000000",
    "800300010000001400000005000000000000a2c4624300000000ffff",
    "0000000501000000",
    "800300010000001700000007000000000000c2aa19662c01bd00000000ffff",
    "0000000700000014474554202f736c6f7720485454502f312e310d0a",
    "0000000701000000",
    "800300060000000400000001",
    "80030007000000080000000000000000",
];

/// The client's header blocks, and what they hold: the type of the stream, the port, and the number
/// of the request.
pub(crate) const UP_BLOCKS: [(&str, [&str; 3]); 4] = [
    (
        "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c60696060c0c0c0c0590489c64c50f2663400000000ffff",
        ["error", "9000", "0"],
    ),
    ("826a26ac0ad57850499508000000ffff", ["data", "9000", "0"]),
    ("a2c4624300000000ffff", ["error", "9000", "1"]),
    ("c2aa19662c01bd00000000ffff", ["data", "9000", "1"]),
];

/// The header blocks of the Go server's replies, which hold no headers.
pub(crate) const DOWN_BLOCKS: [&str; 4] = [
    "78f9e3c6a7c26260606000000000ffff",
    "026100000000ffff",
    "026100000000ffff",
    "026100000000ffff",
];

/// Returns the client's bytes.
pub(crate) fn up() -> Vec<u8> {
    UP.iter().flat_map(|frame| bytes(frame)).collect()
}

/// Reads hex. White space is ignored.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |char: char| char.to_digit(16).expect("a digit of hex") as u8;
    let digits: Vec<u8> = hex
        .chars()
        .filter(|char| !char.is_whitespace())
        .map(digit)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
