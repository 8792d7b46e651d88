//! The head of a request: what a guest may put into it, and what the host adds.

use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::denied::Denied;
use crate::destination::{Destination, quoted};

/// Headers of a request.
pub const MAX_REQUEST_HEADERS: usize = 64;
/// Bytes of a request's headers, names and values with four more each, before secrets are put in and after.
pub const MAX_REQUEST_HEADER_BYTES: usize = 16 * 1024;

/// What the host alone says, or what would change how the message is framed.
const FORBIDDEN: [&str; 10] = [
    "host",
    "connection",
    "transfer-encoding",
    "content-length",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "http2-settings",
];

/// Who asks, unless the guest says so itself.
const USER_AGENT: &str = concat!("capsa/", env!("CARGO_PKG_VERSION"));

/// The guest's headers, names in lower case.
///
/// # Errors
///
/// [`Denied`] `header` if one is forbidden or malformed, or if they are too many or too long.
pub(crate) fn checked(headers: &[(String, String)]) -> Result<Vec<(String, String)>, Denied> {
    if headers.len() > MAX_REQUEST_HEADERS {
        return Err(Denied::new("header", format!("{} headers; at most {MAX_REQUEST_HEADERS}", headers.len())));
    }
    bounded(headers)?;
    headers
        .iter()
        .map(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            if lower.is_empty() || !lower.bytes().all(is_token) {
                return Err(Denied::new("header", format!("{} is not the name of a header", quoted(name))));
            }
            if FORBIDDEN.contains(&lower.as_str()) || lower.starts_with("proxy-") {
                return Err(Denied::new("header", format!("{lower} is set by the host or not at all")));
            }
            if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
                return Err(Denied::new("header", format!("the value of {lower} is not visible ASCII")));
            }
            Ok((lower, value.clone()))
        })
        .collect()
}

/// Whether names and values are not too long together.
///
/// # Errors
///
/// [`Denied`] `header` if they are.
pub(crate) fn bounded(headers: &[(String, String)]) -> Result<(), Denied> {
    let bytes: usize = headers.iter().map(|(name, value)| line_bytes(name, value)).sum();
    if bytes > MAX_REQUEST_HEADER_BYTES {
        return Err(Denied::new("header", format!("{bytes} bytes of headers; at most {MAX_REQUEST_HEADER_BYTES}")));
    }
    Ok(())
}

/// The request as the client takes it, and how many bytes of head and body it will be.
///
/// # Errors
///
/// [`Denied`] `method` if the method takes no body and there is one; `header` or `url-form` if the client cannot
/// send it.
pub(crate) fn request<'b>(
    method: &str,
    destination: &Destination,
    headers: &[(String, String)],
    body: &'b [u8],
) -> Result<(Request<&'b [u8]>, u64), Denied> {
    let bodiless = matches!(method, "GET" | "HEAD");
    if bodiless && !body.is_empty() {
        return Err(Denied::new("method", format!("{method} has no body")));
    }
    let mut map = HeaderMap::with_capacity(headers.len() + 5);
    let unsent = |name: &str| Denied::new("header", format!("{name} cannot be sent as it is"));
    let mut add = |name: &str, value: &str| -> Result<(), Denied> {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsent(name))?;
        map.append(header, HeaderValue::from_str(value).map_err(|_| unsent(name))?);
        Ok(())
    };
    add("host", destination.authority())?;
    for (name, value) in headers {
        add(name, value)?;
    }
    let given = |name: &str| headers.iter().any(|(given, _)| given == name);
    if !given("user-agent") {
        add("user-agent", USER_AGENT)?;
    }
    if !given("accept") {
        add("accept", "*/*")?;
    }
    // One request a connection: the server need not wait for another.
    add("connection", "close")?;
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        add("content-length", &body.len().to_string())?;
    }
    let first_line = method.len() + " ".len() + destination.target().len() + " HTTP/1.1\r\n".len();
    let lines: usize = map.iter().map(|(name, value)| line_bytes(name.as_str(), value)).sum();
    let bytes = (first_line + lines + "\r\n".len() + body.len()) as u64;

    let mut request = Request::new(body);
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Denied::new("method", "it cannot be sent as it is"))?;
    *request.uri_mut() = destination.uri()?;
    *request.headers_mut() = map;
    Ok((request, bytes))
}

fn line_bytes(name: &str, value: impl AsRef<[u8]>) -> usize {
    name.len() + ": ".len() + value.as_ref().len() + "\r\n".len()
}

/// `tchar` of RFC 9110.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
