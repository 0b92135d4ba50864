//! The endpoints of a configuration -> its route; equal sets of endpoints are one route.

use crate::config::Endpoint;
use ringscrape_wal::definition::{Route, next_id};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The routes in use.
#[derive(Debug, Default)]
pub(super) struct Routes {
    by_endpoints: HashMap<Box<[Box<str>]>, Arc<Route>>,
    /// Those whose endpoints are in force, by their ids.
    linked: HashSet<u64>,
}

impl Routes {
    /// The route to these endpoints: the same `Arc` as long as it is in use.
    pub(super) fn of(&mut self, endpoints: &[Arc<Endpoint>]) -> Arc<Route> {
        let identities = endpoints.iter().map(|endpoint| endpoint.identity.as_str());
        let mut identities: Vec<Box<str>> = identities.map(Box::from).collect();
        identities.sort_unstable();
        identities.dedup();
        let identities: Box<[Box<str>]> = identities.into();
        if let Some(route) = self.by_endpoints.get(&identities) {
            return route.clone();
        }
        let route = Arc::new(Route {
            id: next_id(),
            endpoints: identities.clone(),
        });
        self.by_endpoints.insert(identities, route.clone());
        route
    }

    /// Forgets those that are not in use.
    pub(super) fn sweep(&mut self) {
        self.by_endpoints
            .retain(|_, route| Arc::strong_count(route) > 1);
    }

    /// The endpoints of these are in force now, and no others.
    pub(super) fn link(&mut self, routes: &[Arc<Route>]) {
        self.linked = routes.iter().map(|route| route.id).collect();
    }

    /// Whether the endpoints of all of these are in force. Equal identities are equal settings, as
    /// endpoints of stored configurations have their settings in them.
    pub(super) fn are_linked(&self, routes: &[Arc<Route>]) -> bool {
        routes.iter().all(|route| self.linked.contains(&route.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn equal_sets_of_endpoints_are_one_route_as_long_as_it_is_used() {
        let text = "remote_write: [{url: 'http://a/'}, {url: 'http://b/'}]";
        let config = Config::parse(Path::new("/r.yml"), text, &|_| None).unwrap();
        let (a, b) = (&config.remote_write[0], &config.remote_write[1]);
        let mut routes = Routes::default();
        let both = routes.of(&[a.clone(), b.clone()]);
        let other_order = routes.of(&[b.clone(), a.clone(), b.clone()]);
        assert!(Arc::ptr_eq(&both, &other_order));
        let one = routes.of(std::slice::from_ref(a));
        assert_ne!(one.id, both.id);
        routes.link(std::slice::from_ref(&both));
        assert!(routes.are_linked(std::slice::from_ref(&both)));
        assert!(!routes.are_linked(&[both.clone(), one.clone()]));
        routes.sweep();
        assert!(Arc::ptr_eq(&both, &routes.of(&[a.clone(), b.clone()])));
        drop((both, other_order));
        routes.sweep();
        assert_eq!(routes.by_endpoints.len(), 1);
        let again = routes.of(&[a.clone(), b.clone()]);
        assert!(
            !routes.are_linked(&[again]),
            "its endpoints may have gone meanwhile"
        );
    }
}
