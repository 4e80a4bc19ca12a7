//! Bootstrap tokens: `id.secret`, and the Secret in `kube-system` that describes one.
//!
//! The id names the Secret and is public; the secret authenticates a joining node and keys the signature over
//! `cluster-info` (see [`crate::jws`]). What a token may do is decided by the Secret's fields, and every field
//! that cannot be understood takes rights away: an expiration that does not parse counts as expired, a usage
//! other than the text `true` is no usage.
//!
//! Source: kubernetes.io, "Authenticating with Bootstrap Tokens".

use std::{collections::BTreeMap, collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

/// Characters before the dot.
pub const ID_LENGTH: usize = 6;
/// Characters after the dot.
pub const SECRET_LENGTH: usize = 16;
/// Namespace of the token Secrets.
pub const NAMESPACE: &str = "kube-system";
/// `type` of a token Secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// A token Secret is named by this prefix and the token's id.
pub const SECRET_NAME_PREFIX: &str = "bootstrap-token-";
/// The group that kubeadm's RBAC objects give a joining node's rights to.
pub const DEFAULT_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Seconds that a token lives unless told otherwise: 24 hours.
pub const DEFAULT_TTL_SECONDS: i64 = 24 * 3600;

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The public half of a token: six characters of `a-z0-9`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

/// The secret half of a token: sixteen characters of `a-z0-9`. Neither `Debug` nor `Display` shows it.
#[derive(Clone)]
pub struct TokenSecret(SecretString);

/// A whole token. Only [`Token::expose`] shows the secret half.
#[derive(Clone, Debug)]
pub struct Token {
    /// The public half.
    pub id: TokenId,
    /// The secret half.
    pub secret: TokenSecret,
}

/// Why a text is no token. Never contains the text, which may be a secret with one character wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is not `id.secret`.
    #[error(
        "the token is not of the form \"abcdef.0123456789abcdef\" (6 and 16 characters of a-z and 0-9): {0}"
    )]
    Malformed(String),
    /// The text is not six characters of `a-z0-9`.
    #[error("a token ID is 6 characters of a-z and 0-9: {0}")]
    MalformedId(String),
}

impl TokenId {
    /// The six characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the Secret that describes this token.
    pub fn secret_name(&self) -> String {
        format!("{SECRET_NAME_PREFIX}{}", self.0)
    }

    /// The id in a token Secret's name, when it is one.
    pub fn from_secret_name(name: &str) -> Option<TokenId> {
        name.strip_prefix(SECRET_NAME_PREFIX)?.parse().ok()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenId {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        check_part(text, ID_LENGTH, "the ID").map_err(TokenError::MalformedId)?;
        Ok(Self(text.to_owned()))
    }
}

impl TokenSecret {
    /// The sixteen characters, for the one place that sends or signs with them.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

impl PartialEq for TokenSecret {
    /// Compares in constant time: the secret authenticates.
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(
            self.expose().as_bytes(),
            other.expose().as_bytes(),
        )
        .is_ok()
    }
}

impl Eq for TokenSecret {}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.secret == other.secret
    }
}

impl Eq for Token {}

impl Token {
    /// A new random token from the operating system's random source.
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        Self::generate_from(&mut rng)
    }

    /// A new random token; every character equally likely.
    pub fn generate_from(rng: &mut impl rand::CryptoRng) -> Self {
        let id = random_text(rng, ID_LENGTH);
        let secret = random_text(rng, SECRET_LENGTH);
        Self {
            id: TokenId(id),
            secret: TokenSecret(secret.into()),
        }
    }

    /// `id.secret`, for printing to the user who asked for it and for the bearer header.
    pub fn expose(&self) -> String {
        format!("{}.{}", self.id, self.secret.expose())
    }
}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let Some((id, secret)) = text.split_once('.') else {
            return Err(TokenError::Malformed("it has no dot".into()));
        };
        check_part(id, ID_LENGTH, "the part before the dot").map_err(TokenError::Malformed)?;
        check_part(secret, SECRET_LENGTH, "the part after the dot")
            .map_err(TokenError::Malformed)?;
        Ok(Self {
            id: TokenId(id.to_owned()),
            secret: TokenSecret(secret.to_owned().into()),
        })
    }
}

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// As a bearer token at the API server.
    Authentication,
    /// To sign `cluster-info`, so that holders can check it.
    Signing,
}

impl Usage {
    /// kubeadm's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Usage::Authentication => "authentication",
            Usage::Signing => "signing",
        }
    }

    fn secret_key(self) -> &'static str {
        match self {
            Usage::Authentication => "usage-bootstrap-authentication",
            Usage::Signing => "usage-bootstrap-signing",
        }
    }
}

impl FromStr for Usage {
    type Err = FieldError;
    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text {
            "authentication" => Ok(Usage::Authentication),
            "signing" => Ok(Usage::Signing),
            other => Err(FieldError::Usage(other.to_owned())),
        }
    }
}

/// When a token stops working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// No `expiration` field.
    Never,
    /// At this moment.
    At(Timestamp),
    /// The field does not parse as RFC 3339: counts as expired.
    Unreadable(String),
}

impl Expiry {
    /// `seconds` from `now`; 0 means never. Whole seconds, as Kubernetes writes them.
    pub fn after(now: Timestamp, seconds: i64) -> Self {
        if seconds == 0 {
            return Expiry::Never;
        }
        let at = now.as_second().saturating_add(seconds);
        Expiry::At(Timestamp::from_second(at).unwrap_or(Timestamp::MAX))
    }

    /// Whether the token is dead at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        match self {
            Expiry::Never => false,
            Expiry::At(at) => *at <= now,
            Expiry::Unreadable(_) => true,
        }
    }
}

/// A token with everything its Secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapToken {
    /// Id and secret.
    pub token: Token,
    /// Free text.
    pub description: Option<String>,
    /// End of life.
    pub expiry: Expiry,
    /// What it may be used for.
    pub usages: BTreeSet<Usage>,
    /// Groups a bearer gets besides `system:bootstrappers`.
    pub groups: Vec<String>,
}

/// Why a token description or a token Secret is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Unknown usage.
    #[error("unknown token usage {0:?}: known are \"signing\" and \"authentication\"")]
    Usage(String),
    /// A group that bootstrap tokens may not give.
    #[error(
        "token group {0:?} must start with \"system:bootstrappers:\" and go on with a-z, 0-9, ':' or '-', not ending in ':' or '-'"
    )]
    Group(String),
    /// Groups make sense only for tokens that authenticate.
    #[error("token groups cannot be specified unless the usages include \"authentication\"")]
    GroupsWithoutAuthentication,
    /// The Secret is not a token Secret.
    #[error("secret {name:?} is not a bootstrap token: {reason}")]
    NotAToken {
        /// Name of the Secret.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl BootstrapToken {
    /// A token as `token create` makes it without flags: both usages, the default group.
    pub fn new(token: Token, expiry: Expiry) -> Self {
        let usages = BTreeSet::from([Usage::Authentication, Usage::Signing]);
        Self {
            token,
            description: None,
            expiry,
            usages,
            groups: vec![DEFAULT_GROUP.to_owned()],
        }
    }

    /// Whether the token may be used for `usage` at `now`.
    pub fn allows(&self, usage: Usage, now: Timestamp) -> bool {
        self.usages.contains(&usage) && !self.expiry.is_expired(now)
    }

    /// Checks what Kubernetes demands of the fields.
    pub fn validate(&self) -> Result<(), FieldError> {
        if !self.groups.is_empty() && !self.usages.contains(&Usage::Authentication) {
            return Err(FieldError::GroupsWithoutAuthentication);
        }
        match self.groups.iter().find(|g| !is_bootstrap_group(g)) {
            Some(bad) => Err(FieldError::Group(bad.clone())),
            None => Ok(()),
        }
    }

    /// The Secret's fields, in clear text.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), value.to_owned());
        put("token-id", self.token.id.as_str());
        put("token-secret", self.token.secret.expose());
        if let Some(text) = &self.description {
            put("description", text);
        }
        match &self.expiry {
            Expiry::Never => None,
            Expiry::At(at) => put("expiration", &rfc3339(*at)),
            Expiry::Unreadable(text) => put("expiration", text),
        };
        for usage in &self.usages {
            put(usage.secret_key(), "true");
        }
        if !self.groups.is_empty() {
            put("auth-extra-groups", &self.groups.join(","));
        }
        data
    }

    /// Reads a token Secret. `field` looks a key of its (decoded) `data` up.
    ///
    /// # Errors
    /// When the name, the id or the secret is not a token's, or a group is not allowed: such a Secret is no token.
    pub fn from_data<'a>(
        name: &str,
        field: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, FieldError> {
        let refuse = |reason: String| FieldError::NotAToken {
            name: name.to_owned(),
            reason,
        };
        let text = |key: &str| field(key).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let named = TokenId::from_secret_name(name).ok_or_else(|| {
            refuse(format!(
                "its name is not {SECRET_NAME_PREFIX} and 6 characters of a-z and 0-9"
            ))
        })?;
        let id = text("token-id").ok_or_else(|| refuse("it has no token-id".into()))?;
        if id != named.as_str() {
            return Err(refuse("its token-id differs from its name".into()));
        }
        let secret = text("token-secret").ok_or_else(|| refuse("it has no token-secret".into()))?;
        let token: Token = format!("{id}.{secret}")
            .parse()
            .map_err(|_| refuse("its token-secret is malformed".into()))?;
        let usages = [Usage::Authentication, Usage::Signing]
            .into_iter()
            .filter(|usage| field(usage.secret_key()) == Some(b"true"))
            .collect();
        let groups = text("auth-extra-groups")
            .map(|list| split_groups(&list))
            .unwrap_or_default();
        if let Some(bad) = groups.iter().find(|g| !is_bootstrap_group(g)) {
            return Err(FieldError::Group(bad.clone()));
        }
        Ok(Self {
            token,
            description: text("description"),
            expiry: read_expiry(text("expiration")),
            usages,
            groups,
        })
    }
}

/// Whether a bootstrap token may give this group.
pub fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let Some((last, before)) = rest.as_bytes().split_last() else {
        return false;
    };
    lower(last)
        && before.len() <= 255
        && before.iter().all(|b| lower(b) || matches!(b, b':' | b'-'))
}

/// RFC 3339 in UTC with whole seconds, the form of every time in the API.
pub fn rfc3339(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

fn read_expiry(text: Option<String>) -> Expiry {
    match text {
        None => Expiry::Never,
        Some(text) => text.parse().map_or(Expiry::Unreadable(text), Expiry::At),
    }
}

fn split_groups(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|g| !g.is_empty())
        .map(str::to_owned)
        .collect()
}

fn check_part(text: &str, length: usize, what: &str) -> Result<(), String> {
    let count = text.chars().count();
    if count != length {
        return Err(format!("{what} has {count} characters"));
    }
    if text.bytes().all(|b| ALPHABET.contains(&b)) {
        return Ok(());
    }
    Err(format!("{what} has a character other than a-z and 0-9"))
}

/// Random characters of the alphabet. Bytes from 252 up are thrown away: 252 = 7 * 36, so that no
/// character is likelier than another.
fn random_text(rng: &mut impl rand::CryptoRng, length: usize) -> String {
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 32];
    while text.len() < length {
        rng.fill_bytes(&mut bytes);
        for byte in bytes.iter().filter(|b| **b < 252).take(length - text.len()) {
            text.push(char::from(ALPHABET[usize::from(byte % 36)]));
        }
    }
    text
}
