use std::{error::Error as StdError, fmt, io};

use crate::{BoxError, error::chain};

/// An error of a port that says how much has failed: one connection, or the target of all.
///
/// The difference matters to `kubectl port-forward`, which opens a pair of streams for each
/// connection. Once it is shown an error text, it ends *all* of its connections and exits, because
/// it takes the text to mean that the pod is gone. Any other error of a service is therefore
/// treated like that of a [connection](Self::connection): `kubectl` closes the local connection,
/// and continues.
///
/// On channels, both are the text on the error channel of the port.
///
/// The error is also found among the sources of an error. If there is more than one, the outermost
/// counts.
///
/// # Examples
///
/// ```
/// use tokio::{io::copy_bidirectional, net::TcpStream};
/// use tower_wsstream::{
///     BoxError,
///     portforward::{ForwardError, ForwardedPort},
/// };
/// # async fn address_of(pod: &str) -> Option<std::net::Ipv4Addr> { None }
///
/// async fn forward(mut port: ForwardedPort) -> Result<(), BoxError> {
///     let Some(address) = address_of("web").await else {
///         return Err(ForwardError::target("pod \"web\" has terminated").into());
///     };
///     let mut target = TcpStream::connect((address, port.port)).await?;
///     copy_bidirectional(&mut port.stream, &mut target).await?;
///     Ok(())
/// }
/// ```
///
/// An error of the copy drops `target`, which sends a FIN. The documentation of the
/// [module](crate::portforward#examples) says how the pod gets a reset instead.
///
/// An error of one connection, said explicitly where the kind of an error decides:
///
/// ```
/// use std::io;
/// use tower_wsstream::portforward::ForwardError;
///
/// fn failed(error: io::Error) -> ForwardError {
///     match error.kind() {
///         // The address is gone, and so is everything behind it.
///         io::ErrorKind::NetworkUnreachable => ForwardError::target(error),
///         _ => ForwardError::connection(error),
///     }
/// }
/// assert!(!failed(io::ErrorKind::ConnectionRefused.into()).is_target());
/// assert!(failed(io::ErrorKind::NetworkUnreachable.into()).is_target());
/// ```
#[derive(Debug)]
pub struct ForwardError {
    scope: Scope,
    error: BoxError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Connection,
    Target,
}

impl ForwardError {
    /// Creates the error of one connection. The client learns that it has failed, and its other
    /// connections continue.
    pub fn connection(error: impl Into<BoxError>) -> Self {
        Self {
            scope: Scope::Connection,
            error: error.into(),
        }
    }

    /// Creates the error of a target to which no connection is possible any more, such as a pod
    /// that has terminated. The client is shown the `Display` of `error`, and `kubectl` exits.
    pub fn target(error: impl Into<BoxError>) -> Self {
        Self {
            scope: Scope::Target,
            error: error.into(),
        }
    }

    /// Returns whether this is the error of a target.
    pub fn is_target(&self) -> bool {
        self.scope == Scope::Target
    }

    /// Returns the outermost error of this type among an error and its sources.
    pub(super) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|link| match link.downcast_ref::<io::Error>() {
            // The chain skips the inner error of an `io::Error`.
            Some(error) => error.get_ref()?.downcast_ref(),
            None => link.downcast_ref(),
        })
    }

    /// Returns the error that the service has given.
    pub(super) fn given(&self) -> &(dyn StdError + 'static) {
        &*self.error
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scope {
            Scope::Connection => "the connection of a port failed",
            Scope::Target => "the target of a port failed",
        })
    }
}

impl StdError for ForwardError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.given())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_target(error: impl Into<BoxError>) -> Option<bool> {
        ForwardError::find(&*error.into()).map(ForwardError::is_target)
    }

    #[test]
    fn the_outermost_one_counts() {
        let target = || ForwardError::target("the pod has terminated");
        assert_eq!(is_target("x"), None);
        assert_eq!(is_target(target()), Some(true));
        assert_eq!(is_target(ForwardError::connection("x")), Some(false));
        assert_eq!(is_target(io::Error::other(target())), Some(true));
        assert_eq!(is_target(ForwardError::connection(target())), Some(false));
    }

    #[test]
    fn the_cause_is_its_source() {
        let error = ForwardError::target("the pod has terminated");
        assert_eq!(error.to_string(), "the target of a port failed");
        let source = error.source().unwrap();
        assert_eq!(source.to_string(), "the pod has terminated");
    }
}
