use std::{
    error::Error as StdError,
    fmt::{self, Write},
};

use crate::unwind::catch;

/// Iterates over an error and its sources, outermost first.
///
/// `source` is the user's code, and the chain ends at an error whose `source` panics.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = catch(|| error.source()).unwrap_or(None);
        Some(error)
    })
}

/// Returns the text of an error, or `None` if its `Display` panics or fails.
pub(crate) fn text(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut text = String::new();
    let shown = catch(|| write!(text, "{error}"));
    matches!(shown, Ok(Ok(()))).then_some(text)
}

/// Shows an error with its sources in logs, even if the `Display` of one panics.
pub(crate) struct Report<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, link) in chain(self.0).enumerate() {
            let colon = if depth == 0 { "" } else { ": " };
            let text = text(link);
            let text = text.as_deref().unwrap_or("(an error that cannot be shown)");
            write!(f, "{colon}{text}")?;
        }
        Ok(())
    }
}
