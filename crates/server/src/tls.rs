//! TLS between members: what the flags name, loaded once at a start and made into what sockets are wrapped with.
//!
//! rustls does all of it, with ring underneath. The rules are etcd's: with a CA file the certificate of whoever calls is
//! required and verified, and so is that of whoever is called; with `--peer-auto-tls` a certificate is made at each start
//! and nothing is verified but that it is the other side's.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};

/// How long the other side may take for a handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the flags name; empty where they do not.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// `--peer-cert-file`.
    pub cert: String,
    /// `--peer-key-file`.
    pub key: String,
    /// `--peer-client-cert-file`; the same as `cert` where empty.
    pub client_cert: String,
    /// `--peer-client-key-file`.
    pub client_key: String,
    /// `--peer-trusted-ca-file`.
    pub ca: String,
    /// `--peer-auto-tls`.
    pub auto: bool,
    /// `--peer-cert-allowed-hostname`.
    pub allowed_hostnames: Vec<String>,
}

/// Both ends of TLS.
#[derive(Clone)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    allowed: Arc<Vec<ServerName<'static>>>,
}

impl Tls {
    /// Loads what `files` name; `None` if they name nothing.
    ///
    /// # Errors
    /// The file and what is wrong with it, or what does not go together.
    pub fn load(files: &TlsFiles) -> Result<Option<Tls>, String> {
        if files.auto && files.cert.is_empty() {
            return Self::made().map(Some);
        }
        if files.cert.is_empty() && files.key.is_empty() {
            return Ok(None);
        }
        if files.cert.is_empty() || files.key.is_empty() {
            return Err("KeyFile and CertFile must both be present".to_owned());
        }
        if files.ca.is_empty() {
            return Err(
                "--peer-cert-file without --peer-trusted-ca-file: other members could not be verified".to_owned()
            );
        }
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&files.ca)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| format!("{}: {error}", files.ca))?;
        let (certs, key) = pair(&files.cert, &files.key)?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certs, key)
            .map_err(|error| format!("{}: {error}", files.cert))?;
        let (cert, key) = match files.client_cert.as_str() {
            "" => (&files.cert, &files.key),
            client_cert => (&client_cert.to_owned(), &files.client_key),
        };
        let (certs, of_key) = pair(cert, key)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(certs, of_key)
            .map_err(|error| format!("{cert}: {error}"))?;
        let name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| format!("--peer-cert-allowed-hostname: {name:?} is no name"))
        };
        let allowed = files.allowed_hostnames.iter().map(name).collect::<Result<_, _>>()?;
        Ok(Some(Tls { server: Arc::new(server), client: Arc::new(client), allowed: Arc::new(allowed) }))
    }

    /// A certificate of this moment, which nobody verifies (`--peer-auto-tls`).
    fn made() -> Result<Tls, String> {
        let provider = Arc::new(ring::default_provider());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .map_err(|error| format!("--peer-auto-tls: {error}"))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|error| error.to_string())?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .map_err(|error| error.to_string())?;
        let algorithms = provider.signature_verification_algorithms;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(algorithms)))
            .with_no_client_auth();
        Ok(Tls { server: Arc::new(server), client: Arc::new(client), allowed: Arc::default() })
    }

    /// Wraps what was accepted.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    /// Wraps what was dialled.
    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.client))
    }

    /// Whether `certificates`, which were verified, name a host that may call.
    pub(crate) fn is_allowed(&self, certificates: Option<&[CertificateDer<'_>]>) -> bool {
        if self.allowed.is_empty() {
            return true;
        }
        let Some(Ok(parsed)) = certificates.and_then(<[_]>::first).map(ParsedCertificate::try_from) else {
            return false;
        };
        self.allowed.iter().any(|name| rustls::client::verify_server_name(&parsed, name).is_ok())
    }
}

/// How this process asks other members outside the transport; set once at a start.
static PEER_CLIENT: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Lets [`crate::remote`] ask members over TLS. The first word counts.
pub(crate) fn set_peer_client(tls: &Tls) {
    let _ = PEER_CLIENT.set(Arc::clone(&tls.client));
}

/// A connection that begins with the handshake at its first byte; `None` if no TLS was set up.
pub(crate) fn wrap_blocking(
    stream: std::net::TcpStream,
    host: &str,
) -> Option<std::io::Result<rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>>> {
    let config = PEER_CLIENT.get()?;
    let name = match server_name(host) {
        Ok(name) => name,
        Err(error) => return Some(Err(error)),
    };
    let connection = rustls::ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other);
    Some(connection.map(|connection| rustls::StreamOwned::new(connection, stream)))
}

/// A host as certificates name it.
pub(crate) fn server_name(host: &str) -> std::io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{host:?} is no host name")))
}

fn roots(path: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(Path::new(path)).and_then(|certificates| certificates.collect());
    match found {
        Ok(found) if found.is_empty() => Err(format!("{path}: there is no certificate in it")),
        found => found.map_err(|error| format!("{path}: {error}")),
    }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(cert: &str, key: &str) -> Result<Pair, String> {
    let of_key = PrivateKeyDer::from_pem_file(Path::new(key)).map_err(|error| format!("{key}: {error}"))?;
    Ok((certificates(cert)?, of_key))
}

/// Takes every certificate whose key the other side has.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
