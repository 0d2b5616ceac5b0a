//! The URLs etcd's flags take: scheme and address, nothing else.

use std::fmt;

/// An `http`, `https`, `unix` or `unixs` URL.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Url {
    /// Scheme in lower case.
    pub scheme: String,
    /// Host as written, IPv6 without brackets; for unix schemes the path.
    pub host: String,
    /// Port; 0 for unix schemes.
    pub port: u16,
}

impl Url {
    /// Reads a URL by the rules of etcd's `types.NewURLs`.
    ///
    /// # Errors
    /// etcd's words for what is wrong.
    pub fn parse(text: &str) -> Result<Url, String> {
        let bad_scheme = || format!("URL scheme must be http, https, unix, or unixs: {text}");
        let (scheme, rest) = text.split_once(':').ok_or_else(bad_scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => {}
            "unix" | "unixs" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                return Ok(Url { scheme, host: path.to_string(), port: 0 });
            }
            _ => return Err(bad_scheme()),
        }
        let bad_address = || format!("URL address does not have the form \"host:port\": {text}");
        let authority = rest.strip_prefix("//").ok_or_else(bad_address)?;
        if authority.contains('/') {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad_address)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad_address)?,
            None if host.contains(':') => return Err(bad_address()),
            None => host,
        };
        let port = port.parse().map_err(|_| bad_address())?;
        Ok(Url { scheme, host: host.to_string(), port })
    }

    /// Whether a listener can be bound to it: an IP address or `localhost` (F-7).
    ///
    /// # Errors
    /// etcd's words for it.
    pub fn check_bindable(&self) -> Result<(), String> {
        let unix = self.scheme.starts_with("unix");
        let ip = self.host.parse::<std::net::IpAddr>().is_ok();
        if unix || ip || self.host == "localhost" {
            Ok(())
        } else {
            Err(format!("expected IP in URL for binding ({self})"))
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme.starts_with("unix"), self.host.contains(':')) {
            // A path that begins with two slashes needs those of an authority before it, or would lose its own.
            (true, _) if self.host.starts_with("//") => write!(f, "{}://{}", self.scheme, self.host),
            (true, _) => write!(f, "{}:{}", self.scheme, self.host),
            (false, true) => write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port),
            (false, false) => write!(f, "{}://{}:{}", self.scheme, self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for text in ["http://127.0.0.1:2379", "https://[::1]:1", "unix:/run/x", "unix:////x", "http://localhost:0"] {
            assert_eq!(Url::parse(text).expect("valid").to_string(), text);
        }
        for (text, why) in [
            ("127.0.0.1:1", "URL scheme must be http, https, unix, or unixs: 127.0.0.1:1"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
        ] {
            assert_eq!(Url::parse(text).expect_err("malformed"), why);
        }
    }
}
