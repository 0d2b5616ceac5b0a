//! From the global flags to a client, and what a command needs around it.

use crate::cli::{Flag, Invocation, print};
use crate::exit::{BAD_ARGS, BAD_CONNECTION, BAD_FEATURE, ERROR, Exit};
use crate::go;
use crate::log;
use crate::printer::{Answer, Format, Text};
use cetera_client::{Client, Config};
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// The flags of the root (contract T-1).
pub(crate) const GLOBAL_FLAGS: &[Flag] = &[
    Flag::texts("endpoints", "127.0.0.1:2379", "gRPC endpoints").hidden(),
    Flag::bool("debug", "enable client-side debug logging").hidden(),
    Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)")
        .letter('w')
        .hidden(),
    Flag::bool("hex", "print byte strings as hex encoded strings").hidden(),
    Flag::duration("dial-timeout", "2s", "dial timeout for client connections").hidden(),
    Flag::duration("command-timeout", "5s", "timeout for short running command (excluding dial timeout)").hidden(),
    Flag::duration("keepalive-time", "2s", "keepalive time for client connections").hidden(),
    Flag::duration("keepalive-timeout", "6s", "keepalive timeout for client connections").hidden(),
    Flag::int(
        "max-request-bytes",
        "0",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    )
    .hidden(),
    Flag::int(
        "max-recv-bytes",
        "0",
        "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")",
    )
    .hidden(),
    Flag::bool("insecure-transport", "disable transport security for client connections").default("true").hidden(),
    Flag::bool("insecure-discovery", "accept insecure SRV records describing cluster endpoints")
        .default("true")
        .hidden(),
    Flag::bool(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    )
    .hidden(),
    Flag::text("cert", "", "identify secure client using this TLS certificate file").hidden(),
    Flag::text("key", "", "identify secure client using this TLS key file").hidden(),
    Flag::text("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle").hidden(),
    Flag::text(
        "auth-jwt-token",
        "",
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    )
    .hidden(),
    Flag::text("user", "", "username[:password] for authentication (prompt if password is not supplied)").hidden(),
    Flag::text(
        "password",
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    )
    .hidden(),
    Flag::text("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints")
        .letter('d')
        .hidden(),
    Flag::text("discovery-srv-name", "", "service name to query when using DNS discovery").hidden(),
];

/// Variables that are no flag's but known all the same: the API version of old, and the words of `watch`.
const OTHER_VARIABLES: [&str; 3] = ["ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// A client with the output format that was asked for, and the runtime both run on.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) format: Format,
    config: Config,
    runtime: Runtime,
}

impl Session {
    /// Reads the global flags, with the environment behind them (contract T-2).
    pub(crate) fn open(invocation: &Invocation) -> Result<Session, Exit> {
        let mut flags = invocation.flags.clone();
        read_environment(&mut flags)?;
        if flags.bool("debug") {
            print_environment(&flags);
        }
        for name in ["cert", "key", "cacert"] {
            if flags.changed(name) && flags.text(name).is_empty() {
                return Err(Exit::bad_args(format!("empty string is passed to --{name} option")));
            }
            if !flags.text(name).is_empty() {
                return Err(Exit::error(format!("--{name}: TLS is not supported by this client yet")));
            }
        }
        if !flags.text("discovery-srv").is_empty() {
            return Err(Exit::error("--discovery-srv: DNS discovery is not supported by this client yet"));
        }
        let mut config = Config::new(flags.texts("endpoints").iter().map(|e| e.trim()));
        config.dial_timeout = flags.duration("dial-timeout");
        config.keep_alive_time = flags.duration("keepalive-time");
        config.keep_alive_timeout = flags.duration("keepalive-timeout");
        config.timeout = Some(flags.duration("command-timeout"));
        if let Ok(bytes @ 1..) = usize::try_from(flags.int("max-request-bytes")) {
            config.max_send_bytes = bytes;
        }
        if let Ok(bytes @ 1..) = usize::try_from(flags.int("max-recv-bytes")) {
            config.max_receive_bytes = bytes;
        }
        (config.user, config.token) = credentials(&flags)?;
        config.on_failed_attempt = Some(Arc::new(log::failed_attempt));
        let format = Format::named(flags.text("write-out"), flags.bool("hex"))
            .ok_or_else(|| Exit::new(BAD_FEATURE, "unsupported output format"))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = {
            let _inside = runtime.enter();
            Client::new(config.clone())
                .map_err(|e| Exit::new(if config.endpoints.is_empty() { BAD_CONNECTION } else { BAD_ARGS }, e))?
        };
        Ok(Session { client, format, config, runtime })
    }

    /// A client that is not bound by `--command-timeout`.
    pub(crate) fn unhurried(&self) -> Client {
        self.client.with_timeout(None)
    }

    /// The endpoints given, or with `--cluster` those of all members.
    pub(crate) fn endpoints(&self, invocation: &Invocation) -> Result<Vec<String>, Exit> {
        if !invocation.flags.bool("cluster") {
            return Ok(self.client.endpoints().to_vec());
        }
        let members = self
            .block_on(self.client.member_list(true))
            .map_err(|e| Exit::error(format!("failed to fetch endpoints from etcd cluster member list: {e}")))?;
        Ok(members.members.into_iter().flat_map(|m| m.client_urls).collect())
    }

    /// A client of one endpoint alone, otherwise alike.
    pub(crate) fn client_of(&self, endpoint: &str) -> Result<Client, Exit> {
        self.client(Config { endpoints: vec![endpoint.to_string()], ..self.config.clone() })
    }

    /// A client of one endpoint of another cluster.
    pub(crate) fn client_for(&self, endpoint: &str, user: Option<(String, String)>) -> Result<Client, Exit> {
        self.client(Config { endpoints: vec![endpoint.to_string()], user, token: None, ..self.config.clone() })
    }

    fn client(&self, config: Config) -> Result<Client, Exit> {
        let _inside = self.runtime.enter();
        Client::new(config).map_err(Exit::bad_args)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Prints an answer in the format that was asked for.
    pub(crate) fn show(&self, answer: &Answer<'_>) -> Result<(), Exit> {
        show(self.format, answer)
    }
}

/// Prints an answer.
pub(crate) fn show(format: Format, answer: &Answer<'_>) -> Result<(), Exit> {
    let Text { out, err } = format.text(answer)?;
    std::io::stderr().write_all(&err)?;
    print(&out)
}

fn variable(flag: &str) -> String {
    format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"))
}

/// Flags that were not given take their value from the environment; both at once is fatal.
fn read_environment(flags: &mut crate::cli::Values) -> Result<(), Exit> {
    let mut used = Vec::new();
    let mut given = Vec::new();
    for flag in GLOBAL_FLAGS {
        let name = variable(flag.name);
        if flags.changed(flag.name) {
            given.push(name);
        } else if let Ok(value) = std::env::var(&name)
            && !value.is_empty()
        {
            // As in etcdctl a value that makes no sense is passed over.
            let _ = flags.set(flag.name, &value);
            used.push(name);
        }
    }
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let quoted = |text: &str| go::json_string(text.as_bytes());
        if given.contains(&name) {
            let text = "conflicting environment variable is shadowed by corresponding command-line flag \
                        (either unset environment variable or disable flag))";
            log::line("fatal", None, text, &[("environment-variable", quoted(&name))]);
            return Err(Exit::silent(ERROR));
        }
        if name.starts_with("ETCDCTL_") && !used.contains(&name) && !OTHER_VARIABLES.contains(&name.as_str()) {
            let both = format!("{name}={}", value.to_string_lossy());
            log::line("warn", None, "unrecognized environment variable", &[("environment-variable", quoted(&both))]);
        }
    }
    Ok(())
}

/// `--debug`: what is in force, without the password.
fn print_environment(flags: &crate::cli::Values) {
    let mut names: Vec<&Flag> = GLOBAL_FLAGS.iter().collect();
    names.sort_by_key(|f| f.name);
    for flag in names {
        let text = flags.text(flag.name);
        let shown = match flag.name {
            "endpoints" => format!("[{text}]"),
            "password" | "auth-jwt-token" if !text.is_empty() => "********".to_string(),
            "user" => text.split(':').next().unwrap_or_default().to_string(),
            _ => text.to_string(),
        };
        // Nothing is left to do about a closed stderr.
        let _ = writeln!(std::io::stderr(), "{}={shown}", variable(flag.name));
    }
}

type Credentials = (Option<(String, String)>, Option<String>);

/// `--auth-jwt-token`, or `--user name:password`, or `--user name` with `--password` or a prompt (contract T-7).
fn credentials(flags: &crate::cli::Values) -> Result<Credentials, Exit> {
    let (user, password, token) = (flags.text("user"), flags.text("password"), flags.text("auth-jwt-token"));
    if !token.is_empty() {
        return Ok((None, Some(token.to_string())));
    }
    if user.is_empty() {
        return Ok((None, None));
    }
    let (name, password) = match (password, user.split_once(':')) {
        ("", Some((name, password))) => (name, password.to_string()),
        ("", None) => (user, crate::command::prompt::password("Password: ")?),
        (password, _) => (user, password.to_string()),
    };
    Ok((Some((name.to_string(), password)), None))
}
