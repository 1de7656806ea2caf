//! Errors of Kubernetes' client as texts. The client quotes the kubeconfig and what a credential plugin has printed, which may
//! hold keys and tokens: those parts are never told.

use std::error::Error;

use kube::client::AuthError;
use kube::config::KubeconfigError;

/// An error with all that led to it; each part says only what is new.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut chain = vec![error];
    while let Some(cause) = chain[chain.len() - 1].source() {
        chain.push(cause);
    }
    if let Some(told) = chain.iter().find_map(|error| without_secrets(*error)) {
        return told;
    }
    let mut text = String::new();
    for cause in chain.iter().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn without_secrets(error: &(dyn Error + 'static)) -> Option<String> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(KubeconfigError::Parse(_)), _) => {
            Some("the kubeconfig cannot be read: `kubectl config view` says what is wrong with it".to_owned())
        }
        (_, Some(AuthError::AuthExecRun { cmd, out })) => {
            Some(format!("the credential plugin {cmd:?} ended with {}", out.status))
        }
        (_, Some(AuthError::AuthExecParse(_))) => {
            Some("what the credential plugin has printed cannot be read".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let inner = std::io::Error::other("connection refused");
        let error = kube::Error::Service(Box::new(inner));
        assert_eq!(causes(&error), "ServiceError: connection refused");
    }

    /// What the client says of a kubeconfig that ends too early, in the middle of a secret.
    fn broken() -> KubeconfigError {
        Kubeconfig::from_yaml("users: [{name: a, user: {token: hunter2").expect_err("it ends too early")
    }

    #[test]
    fn a_kubeconfig_that_is_broken_is_never_quoted() {
        let error = broken();
        assert!(error.to_string().contains("hunter2"), "the client has changed: {error}");
        let told = causes(&error);
        assert!(told.contains("kubectl config view") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn what_a_credential_plugin_prints_is_never_told() {
        let out = Box::new(Output {
            status: ExitStatus::from_raw(256),
            stdout: b"hunter2".to_vec(),
            stderr: b"hunter2".to_vec(),
        });
        let ended = kube::Error::Service(Box::new(AuthError::AuthExecRun { cmd: "plugin".to_owned(), out }));
        let KubeconfigError::Parse(error) = broken() else { panic!("it cannot be parsed") };
        for error in [ended, kube::Error::Auth(AuthError::AuthExecParse(error))] {
            let told = causes(&error);
            assert!(told.contains("credential plugin") && !told.contains("hunter2"), "{told}");
        }
    }
}
