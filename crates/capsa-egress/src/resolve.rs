//! Names to addresses, once per request.
//!
//! Nothing is kept between requests, not even for the time that an answer says: a capsule would learn from the
//! time taken what another one has asked for, and the addresses that are judged are in any case those that are
//! connected to. A resolver costs less than the question it puts.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;

use crate::denied::{Denied, Failure};

/// How long one server is waited for before it is asked again.
const TRY: Duration = Duration::from_secs(2);
/// How often it is asked again.
const TRIES_MORE: usize = 2;

/// Who is asked.
#[derive(Debug, Clone)]
pub(crate) enum Resolver {
    /// `/etc/hosts` and the servers of `/etc/resolv.conf`, as they are at the time of the request.
    System,
    /// These servers alone.
    Servers(Vec<SocketAddr>),
}

impl Resolver {
    /// All addresses of a name, IPv4 and IPv6; at least one. No search domain is tried.
    ///
    /// # Errors
    ///
    /// [`Denied`] `unresolved` if there is none; [`Failure::TimedOut`] at the deadline.
    pub(crate) fn addresses(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
        let unresolved = |why: &str| Failure::Denied(Denied::new("unresolved", format!("{name} {why}")));
        // With its last dot a name is complete.
        let full = Name::from_ascii(format!("{name}.")).map_err(|_| unresolved("is no name of the DNS"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| Failure::Failed("the machine has no resources for a look-up"))?;
        let answer = runtime.block_on(async {
            let resolver = self.resolver()?;
            tokio::time::timeout_at(deadline.into(), resolver.lookup_ip(full)).await.map_err(|_| NetError::Timeout)?
        });
        if Instant::now() >= deadline {
            return Err(Failure::TimedOut);
        }
        let addresses: Vec<IpAddr> = match answer {
            Ok(answer) => answer.iter().collect(),
            Err(error) if error.is_no_records_found() => Vec::new(),
            Err(_) => return Err(unresolved("could not be resolved")),
        };
        if addresses.is_empty() {
            return Err(unresolved("has no address"));
        }
        Ok(addresses)
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self {
            Resolver::System => TokioResolver::builder_tokio()?,
            Resolver::Servers(servers) => {
                let servers = servers.iter().map(|server| {
                    let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                    for way in &mut ways {
                        way.port = server.port();
                    }
                    NameServerConfig::new(server.ip(), true, ways)
                });
                TokioResolver::builder_with_config(
                    ResolverConfig::from_parts(None, Vec::new(), servers.collect()),
                    TokioRuntimeProvider::default(),
                )
            }
        };
        let hosts = match self {
            Resolver::System => ResolveHosts::Always,
            Resolver::Servers(_) => ResolveHosts::Never,
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.use_hosts_file = hosts;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = TRY;
        options.attempts = TRIES_MORE;
        builder.build()
    }
}
