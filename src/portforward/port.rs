use std::{fmt, sync::Arc};

use http::request::Parts;

use super::stream::ForwardedStream;
use crate::Session;

/// One port of a session, or one connection through a [tunnel](super#tunnels).
///
/// # Examples
///
/// A service that knows that a client for channels is never told that its target has ended:
///
/// ```
/// use std::time::Duration;
///
/// use tokio::{
///     io::{AsyncWriteExt, copy, copy_bidirectional},
///     net::TcpStream,
///     time::timeout,
/// };
/// use tower_wsstream::{BoxError, portforward::ForwardedPort};
///
/// async fn forward(mut port: ForwardedPort) -> Result<(), BoxError> {
///     println!("connection {:?} to port {}", port.request_id(), port.port);
///     let mut target = TcpStream::connect(("127.0.0.1", port.port)).await?;
///     if port.has_half_close() {
///         copy_bidirectional(&mut port.stream, &mut target).await?;
///         return Ok(());
///     }
///     let (mut from, mut to) = port.stream.into_split();
///     let (mut output, mut input) = target.split();
///     let upload = async {
///         copy(&mut from, &mut input).await?;
///         input.shutdown().await
///     };
///     let download = async {
///         copy(&mut output, &mut to).await?;
///         to.shutdown().await
///     };
///     tokio::pin!(upload);
///     tokio::select! {
///         // The client has ended the session; what the target still sends goes out.
///         sent = &mut upload => { sent?; }
///         received = download => {
///             received?;
///             // The target has ended its output. The client cannot know, so it gets a minute.
///             let _ = timeout(Duration::from_secs(60), upload).await;
///         }
///     }
///     Ok(())
/// }
/// # let _ = forward;
/// ```
#[non_exhaustive]
pub struct ForwardedPort {
    /// The number of the port that the client asked for, from 1 to 65535.
    pub port: u16,
    /// The index of the port in the request, from 0. A client may ask for the same port twice.
    ///
    /// For a connection through a tunnel, it is the lowest number that no other connection of the
    /// session has at the time.
    pub index: usize,
    /// The data of the port. It buffers data that the client sends before the service reads it.
    pub stream: ForwardedStream,
    /// The session, which all ports of a request share. Closing it ends all of them.
    pub session: Session,
    /// The head of the upgrade request, with the extensions that outer layers have inserted.
    ///
    /// All ports of a request share it. Drop it early: it keeps a read buffer of the server alive,
    /// usually 8 KiB. For a tunnel, the head is a copy of the size of its contents.
    pub request: Option<Arc<Parts>>,
    pub(super) half_close: bool,
    pub(super) request_id: Option<Box<str>>,
}

impl ForwardedPort {
    /// Returns whether each direction of the stream has an end of its own.
    ///
    /// This is so for a connection through a tunnel: a read returns EOF when the client has ended
    /// its direction, and shutting the stream down tells the client. On channels, the client
    /// learns of no end but that of the session, so a service has to stop waiting for a client that
    /// does not know that the target has ended its output.
    pub fn has_half_close(&self) -> bool {
        self.half_close
    }

    /// Returns the client's name for a connection through a tunnel, which it sends as the header
    /// `requestid`. It is `None` on channels, and for very old clients, which send none.
    ///
    /// `kubectl` counts the connections of a session from `"0"`, and the logs of Kubernetes' servers
    /// show the same text. A client may send any text of up to 256 bytes, and use one again.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}

/// Omits the head of the request, which may hold credentials, and the text of `requestid`.
impl fmt::Debug for ForwardedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardedPort")
            .field("port", &self.port)
            .field("index", &self.index)
            .field("stream", &self.stream)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
