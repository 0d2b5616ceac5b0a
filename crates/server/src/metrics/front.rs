//! What each front thread counts about its calls.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cetera_proto::services::{Kind, METHODS, Method};

/// gRPC's codes by number, as `grpc_code` labels spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    /// Only the owning thread may call this: a load and a store, no locked instruction.
    fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct MethodCounters {
    started: Count,
    handled: [Count; CODES.len()],
}

/// The numbers of one front thread; only that thread may count.
#[derive(Debug)]
pub struct FrontCounters {
    methods: Vec<MethodCounters>,
    received_bytes: Count,
    sent_bytes: Count,
}

static ALL: Mutex<Vec<Arc<FrontCounters>>> = Mutex::new(Vec::new());

impl FrontCounters {
    /// New numbers that [`render`] counts in.
    pub fn register() -> Arc<FrontCounters> {
        let counters = Arc::new(FrontCounters {
            methods: METHODS.iter().map(|_| MethodCounters::default()).collect(),
            received_bytes: Count::default(),
            sent_bytes: Count::default(),
        });
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// A call began.
    pub fn started(&self, method: &Method) {
        self.methods[method.id as usize].started.add(1);
    }

    /// A call ended.
    pub fn handled(&self, method: &Method, code: u32) {
        // Whatever is no code counts as Unknown, as clients take it.
        let code = if (code as usize) < CODES.len() { code as usize } else { 2 };
        self.methods[method.id as usize].handled[code].add(1);
    }

    /// A request message came.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.add(bytes as u64);
    }

    /// A response message was handed to the connection.
    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.add(bytes as u64);
    }
}

fn kind_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Unary => "unary",
        Kind::ServerStream => "server_stream",
        Kind::ClientStream => "client_stream",
        Kind::Bidi => "bidi_stream",
    }
}

/// Appends the sums over all front threads in Prometheus text. Calls never started are there with 0, handled codes only
/// once they happened.
pub(super) fn render(out: &mut String) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let sum = |get: &dyn Fn(&FrontCounters) -> u64| all.iter().map(|counters| get(counters)).sum::<u64>();
    for (name, help, bytes) in [
        ("received", "received from grpc clients", sum(&|c| c.received_bytes.get())),
        ("sent", "sent to grpc clients", sum(&|c| c.sent_bytes.get())),
    ] {
        let name = format!("etcd_network_client_grpc_{name}_bytes_total");
        let _ = writeln!(out, "# HELP {name} The total number of bytes {help}.\n# TYPE {name} counter\n{name} {bytes}");
    }
    out.push_str("# HELP grpc_server_handled_total Total number of RPCs completed on the server, regardless of success or failure.\n");
    out.push_str("# TYPE grpc_server_handled_total counter\n");
    let labels = |method: &Method| {
        let kind = kind_label(method.kind);
        format!("grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{kind}\"", method.name, method.service)
    };
    for method in METHODS {
        for (code, code_name) in CODES.iter().enumerate() {
            let count = sum(&|c| c.methods[method.id as usize].handled[code].get());
            if count > 0 || code == 0 {
                let _ =
                    writeln!(out, "grpc_server_handled_total{{grpc_code=\"{code_name}\",{}}} {count}", labels(method));
            }
        }
    }
    out.push_str("# HELP grpc_server_started_total Total number of RPCs started on the server.\n");
    out.push_str("# TYPE grpc_server_started_total counter\n");
    for method in METHODS {
        let count = sum(&|c| c.methods[method.id as usize].started.get());
        let _ = writeln!(out, "grpc_server_started_total{{{}}} {count}", labels(method));
    }
}
