//! Lists that come in pages.

use clap::Args;

use crate::error::Result;

/// How much of a list is wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct Page {
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    limit: usize,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Largest page that the server gives.
const PAGE: usize = 500;

impl Page {
    /// Asks for pages until there are enough; says whether there is more.
    pub(crate) async fn collect<T, F>(&self, mut next: impl FnMut(u32, String) -> F) -> Result<(Vec<T>, bool)>
    where
        F: Future<Output = Result<(Vec<T>, String)>>,
    {
        let limit = if self.all { usize::MAX } else { self.limit };
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let size = PAGE.min(limit - found.len()).max(1);
            let (items, following) = next(size as u32, token).await?;
            let stuck = items.is_empty();
            found.extend(items);
            let more = !following.is_empty() && !stuck || found.len() > limit;
            found.truncate(limit);
            if !more || found.len() >= limit {
                return Ok((found, more));
            }
            token = following;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    fn collect(page: &Page, there: usize) -> (usize, bool) {
        let (found, more) = block_on(page.collect(|size, token| async move {
            let from: usize = token.parse().unwrap_or(0);
            let to = there.min(from + size as usize);
            let next = if to < there { to.to_string() } else { String::new() };
            Ok(((from..to).collect(), next))
        }))
        .unwrap();
        assert!(found.iter().enumerate().all(|(i, &x)| i == x));
        (found.len(), more)
    }

    #[test]
    fn pages_are_joined_up_to_the_limit() {
        let page = |limit, all| Page { limit, all };
        assert_eq!(collect(&page(20, false), 7), (7, false));
        assert_eq!(collect(&page(20, false), 20), (20, false));
        assert_eq!(collect(&page(20, false), 21), (20, true));
        assert_eq!(collect(&page(700, false), 2000), (700, true));
        assert_eq!(collect(&page(20, true), 1201), (1201, false));
        assert_eq!(collect(&page(20, true), 0), (0, false));
    }
}
