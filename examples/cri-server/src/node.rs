//! The sandboxes that this machine runs, and the containers in them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    io,
    net::Ipv4Addr,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tonic::Status;

use crate::{
    container::Container,
    generated::{ContainerConfig, NamespaceMode, PodSandboxConfig},
};

/// The largest number of sandboxes, and of containers. A node of Kubernetes runs a hundred.
const AT_ONCE: usize = 1000;

/// The number of random bytes in an ID: as hexadecimal digits it is as long as those of other
/// runtimes, which crictl shortens.
const ID_BYTES: usize = 32;

/// The place of a pod: an address, and the containers that share it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) config: PodSandboxConfig,
    pub(crate) created_at: i64,
    /// A loopback address of its own, or the one that all programs of the host share.
    pub(crate) address: Ipv4Addr,
    is_ready: Mutex<bool>,
}

impl Sandbox {
    /// Returns whether the sandbox has the network of the host.
    pub(crate) fn is_host(&self) -> bool {
        self.address == Ipv4Addr::LOCALHOST
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.is_ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        *self.is_ready.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// All sandboxes and containers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: BTreeMap<String, Arc<Sandbox>>,
    containers: BTreeMap<String, Arc<Container>>,
    /// The number of addresses that were tried.
    addresses: u16,
}

impl Node {
    pub(crate) fn run_sandbox(&self, config: PodSandboxConfig) -> Result<Arc<Sandbox>, Status> {
        let id = new_id()?;
        let mut state = self.lock();
        if state.sandboxes.len() >= AT_ONCE {
            return Err(Status::resource_exhausted("too many sandboxes"));
        }
        let address = match has_hosts_network(&config) {
            true => Ipv4Addr::LOCALHOST,
            false => state.free_address(),
        };
        let sandbox = Arc::new(Sandbox {
            id: id.clone(),
            config,
            created_at: now(),
            address,
            is_ready: Mutex::new(true),
        });
        state.sandboxes.insert(id, Arc::clone(&sandbox));
        Ok(sandbox)
    }

    /// Stops a sandbox and its containers. Returns when their processes were told.
    pub(crate) async fn stop_sandbox(&self, sandbox: &Sandbox) {
        sandbox.stop();
        for container in self.containers_of(&sandbox.id) {
            container.stop().await;
        }
    }

    /// Removes a sandbox that was stopped, with its containers.
    pub(crate) fn remove_sandbox(&self, sandbox: &Sandbox) {
        let mut state = self.lock();
        state
            .containers
            .retain(|_, container| container.sandbox.id != sandbox.id);
        state.sandboxes.remove(&sandbox.id);
    }

    pub(crate) fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<Arc<Container>, Status> {
        let id = new_id()?;
        let mut state = self.lock();
        if state.containers.len() >= AT_ONCE {
            return Err(Status::resource_exhausted("too many containers"));
        }
        let sandbox = find(&state.sandboxes, sandbox, "sandbox")?;
        // Under the lock: a sandbox that is being removed takes its containers with it.
        if !sandbox.is_ready() {
            return Err(Status::failed_precondition("the sandbox was stopped"));
        }
        let container = Arc::new(Container::new(id.clone(), sandbox, config));
        state.containers.insert(id, Arc::clone(&container));
        Ok(container)
    }

    pub(crate) fn remove_container(&self, container: &Container) {
        self.lock().containers.remove(&container.id);
    }

    /// Returns the sandbox whose ID this is, or the beginning of its ID.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Status> {
        find(&self.lock().sandboxes, id, "sandbox")
    }

    /// Returns the container whose ID this is, or the beginning of its ID.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        find(&self.lock().containers, id, "container")
    }

    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.lock().sandboxes.values().cloned().collect()
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.lock().containers.values().cloned().collect()
    }

    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let mut containers = self.containers();
        containers.retain(|container| container.sandbox.id == sandbox);
        containers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave a change half done, so poisoning does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns an address of 127.0.1.0 to 127.0.255.255 that no sandbox has. There are 64 times
    /// as many as there may be sandboxes.
    fn free_address(&mut self) -> Ipv4Addr {
        loop {
            self.addresses = self.addresses.checked_add(1).unwrap_or(1);
            let [high, low] = self.addresses.to_be_bytes();
            let address = Ipv4Addr::new(127, 0, high, low);
            let is_taken = |sandbox: &Arc<Sandbox>| sandbox.address == address;
            // The first 256 look like addresses of the host, and a last byte of 0 or 255 like that
            // of a network.
            if high > 0 && !matches!(low, 0 | 255) && !self.sandboxes.values().any(is_taken) {
                return address;
            }
        }
    }
}

fn has_hosts_network(config: &PodSandboxConfig) -> bool {
    let linux = config.linux.as_ref();
    let security = linux.and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options);
    options.is_some_and(|options| options.network() == NamespaceMode::Node)
}

fn find<T>(all: &BTreeMap<String, Arc<T>>, id: &str, kind: &str) -> Result<Arc<T>, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument(format!("missing {kind} ID")));
    }
    let from = (Bound::Included(id), Bound::Unbounded);
    let mut matching = all
        .range::<str, _>(from)
        .take_while(|(full, _)| full.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some((_, one)), None) => Ok(Arc::clone(one)),
        (Some(_), Some(_)) => Err(Status::invalid_argument(format!(
            "more than one {kind} begins with {id:?}"
        ))),
        (None, _) => Err(Status::not_found(format!("{kind} {id:?} not found"))),
    }
}

/// Returns whether all labels of a filter are there.
pub(crate) fn has_labels(
    labels: &HashMap<String, String>,
    wanted: &HashMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

fn new_id() -> Result<String, Status> {
    random_hex(ID_BYTES).map_err(|error| Status::internal(format!("no ID: {error}")))
}

/// Returns random bytes as hexadecimal digits, or an error if the system has none.
pub(crate) fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Returns the time in the unit of the interface: nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_enough_if_there_is_one() {
        let ids = ["aa", "ab", "b"];
        let all = ids.map(|id| (id.to_owned(), Arc::new(id))).into();
        for (id, found) in [
            ("aa", Ok("aa")),
            ("b", Ok("b")),
            ("a", Err(Code::InvalidArgument)),
            ("", Err(Code::InvalidArgument)),
            ("aaa", Err(Code::NotFound)),
            ("c", Err(Code::NotFound)),
        ] {
            let got = find(&all, id, "sandbox").map(|one| *one);
            assert_eq!(got.map_err(|status| status.code()), found, "{id:?}");
        }
    }

    #[test]
    fn each_sandbox_has_an_address_of_its_own() -> Result<(), Status> {
        let node = Node::default();
        let first = node.run_sandbox(PodSandboxConfig::default())?;
        assert_eq!(first.address, Ipv4Addr::new(127, 0, 1, 1));
        node.lock().addresses = u16::MAX - 1;
        // Behind the last one the search begins again, and the first is taken.
        let second = node.run_sandbox(PodSandboxConfig::default())?;
        assert_eq!(second.address, Ipv4Addr::new(127, 0, 1, 2));
        node.remove_sandbox(&first);
        node.lock().addresses = u16::MAX - 1;
        let third = node.run_sandbox(PodSandboxConfig::default())?;
        assert_eq!(third.address, first.address);
        Ok(())
    }
}
