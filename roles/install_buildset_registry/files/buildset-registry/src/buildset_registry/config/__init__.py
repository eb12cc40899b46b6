# SPDX-License-Identifier: Apache-2.0
"""The configuration: one typed tree with the defaults inside it; an unknown key is an error.

``buildset-registry up`` writes it; ``buildset-registry serve --config FILE`` reads it. Secrets have
no default. Relative paths are relative to the file's folder. The tree is read by ``server``,
where ``build`` makes the objects of it, by ``instance``, which writes it, and by the commands that
load it; everything else takes values.
"""

from buildset_registry.config.acme import AcmeSettings, ExternalAccountSettings
from buildset_registry.config.endpoints import (
    Endpoint,
    Endpoints,
    MetricsSettings,
    ProxySettings,
    Tls,
)
from buildset_registry.config.model import (
    DEFAULT_UPSTREAMS,
    AuthSettings,
    Config,
    GcSettings,
    LedgerSettings,
    LimitSettings,
    LockSettings,
    LogSettings,
    OverlaySettings,
    PullThroughSettings,
    RuleSettings,
    TokenServerSettings,
    UpstreamSettings,
    WebhookSettings,
)
from buildset_registry.config.reader import is_http_url, load, parse
from buildset_registry.config.retention import (
    Duration,
    QuotaSettings,
    RetentionRuleSettings,
    RetentionSettings,
)
from buildset_registry.config.storage import (
    AzureCredentials,
    AzureSettings,
    CloudFrontSettings,
    GcsSettings,
    OssSettings,
    RedirectSettings,
    S3Settings,
    StorageSettings,
    SwiftSettings,
)

__all__ = [
    "DEFAULT_UPSTREAMS",
    "AcmeSettings",
    "AuthSettings",
    "AzureCredentials",
    "AzureSettings",
    "CloudFrontSettings",
    "Config",
    "Duration",
    "Endpoint",
    "Endpoints",
    "ExternalAccountSettings",
    "GcSettings",
    "GcsSettings",
    "LedgerSettings",
    "LimitSettings",
    "LockSettings",
    "LogSettings",
    "MetricsSettings",
    "OssSettings",
    "OverlaySettings",
    "ProxySettings",
    "PullThroughSettings",
    "QuotaSettings",
    "RedirectSettings",
    "RetentionRuleSettings",
    "RetentionSettings",
    "RuleSettings",
    "S3Settings",
    "StorageSettings",
    "SwiftSettings",
    "Tls",
    "TokenServerSettings",
    "UpstreamSettings",
    "WebhookSettings",
    "is_http_url",
    "load",
    "parse",
]
