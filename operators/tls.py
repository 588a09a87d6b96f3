"""What OpenSSL says in an error, by the codes that stand in its text."""


def wants_certificate(text: str) -> bool:
    """Whether the other side wants a certificate of us, or another one.

    >>> wants_certificate("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    True
    """
    codes = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")
    return any(f"ALERT_{code}" in text for code in codes)


def speaks_no_tls(text: str) -> bool:
    """Whether the other side speaks something else.

    >>> speaks_no_tls("[SSL: WRONG_VERSION_NUMBER] wrong version number")
    True
    """
    codes = ("UNEXPECTED_EOF_WHILE_READING", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "INVALID_ALERT")
    return any(f"SSL: {code}" in text for code in codes)


def untrusted(text: str) -> str:
    """Why the certificate of the other side is not trusted; "" where that is not what the text says.

    >>> untrusted("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1006)")
    'self-signed'
    """
    if "CERTIFICATE_VERIFY_FAILED" not in text:
        return ""
    return text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or "unknown reason"
