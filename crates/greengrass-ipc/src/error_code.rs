//! The names of the errors a nucleus answers with.

use std::fmt;

/// Declares the enum and both directions of its names from one table.
macro_rules! codes {
    ($($(#[$documentation:meta])* $variant:ident = $name:literal;)*) => {
        /// Which error a nucleus answered with: every one the service model names, and whatever else comes.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$documentation])* $variant,)*
            /// None of the model: a name of a nucleus' own, for instance `InternalServerError`.
            Other(String),
        }

        impl ErrorCode {
            /// The name on the wire, for instance `UnauthorizedError`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<String> for ErrorCode {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $($name => Self::$variant,)*
                    _ => Self::Other(name),
                }
            }
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$($name),*];
    };
}

codes! {
    /// The nucleus has no component of that name.
    ComponentNotFound = "ComponentNotFoundError";
    /// Somebody else changed it at the same time: a shadow version or configuration that is not the present one.
    Conflict = "ConflictError";
    /// The configuration was changed later than the change to be made.
    FailedUpdateConditionCheck = "FailedUpdateConditionCheckError";
    /// A member of the request is missing, of the wrong type or out of range.
    InvalidArguments = "InvalidArgumentsError";
    /// The artifacts of a local deployment cannot be read.
    InvalidArtifactsDirectoryPath = "InvalidArtifactsDirectoryPathError";
    /// The session token of a client device is wrong.
    InvalidClientDeviceAuthToken = "InvalidClientDeviceAuthTokenError";
    /// The credentials of a client device are wrong.
    InvalidCredential = "InvalidCredentialError";
    /// The recipes of a local deployment cannot be read.
    InvalidRecipeDirectoryPath = "InvalidRecipeDirectoryPathError";
    /// The token to be validated is wrong.
    InvalidToken = "InvalidTokenError";
    /// No such key, shadow, secret or component.
    ResourceNotFound = "ResourceNotFoundError";
    /// The nucleus failed, is offline, is over a limit or does not know the operation.
    Service = "ServiceError";
    /// The component's policy does not allow it. Lite says the same while it cannot read the policy.
    Unauthorized = "UnauthorizedError";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        for name in NAMES {
            let code = ErrorCode::from((*name).to_owned());
            assert!(!matches!(code, ErrorCode::Other(_)), "{name}");
            assert_eq!((code.as_str(), code.to_string().as_str()), (*name, *name));
        }
        let other = ErrorCode::from("InternalServerError".to_owned());
        assert_eq!(other, ErrorCode::Other("InternalServerError".to_owned()));
        assert_eq!(other.as_str(), "InternalServerError");
    }
}
