"""Every setting of Whetstone: its unit, its bounds, its meaning. `whetstone config` prints them with their values.

Values come, first found wins, from `WHETSTONE_*` environment variables (`WHETSTONE_KAFKA_BOOTSTRAP` is
`kafka.bootstrap`), from `DATA_DIR/secrets.toml` (made by the set-up, mode 0600), and from `whetstone.toml`
(or the file that `WHETSTONE_CONFIG` names).
"""

from ingest.settings.criteria import CriterionSettings
from ingest.settings.installation import Settings, config_file, load_settings, secrets_file
from ingest.settings.processes import (
    EngineSettings,
    GatewaySettings,
    IngestSettings,
    ModelSettings,
    PairingSettings,
    RolloutSettings,
    TrainerSettings,
)
from ingest.settings.section import Section, TaskName, WrongSetting
from ingest.settings.stores import DatabaseSettings, ErasureSettings, HoldoutSettings, KafkaSettings
from ingest.settings.tasks import (
    GateSettings,
    RedactionSettings,
    RetentionSettings,
    SourceSettings,
    SourcesSettings,
    TaskPairingSettings,
    TaskSettings,
    TrainingSettings,
    TriggerSettings,
)

__all__ = [
    "CriterionSettings",
    "DatabaseSettings",
    "EngineSettings",
    "ErasureSettings",
    "GateSettings",
    "GatewaySettings",
    "HoldoutSettings",
    "IngestSettings",
    "KafkaSettings",
    "ModelSettings",
    "PairingSettings",
    "RedactionSettings",
    "RetentionSettings",
    "RolloutSettings",
    "Section",
    "Settings",
    "SourceSettings",
    "SourcesSettings",
    "TaskName",
    "TaskPairingSettings",
    "TaskSettings",
    "TrainerSettings",
    "TrainingSettings",
    "TriggerSettings",
    "WrongSetting",
    "config_file",
    "load_settings",
    "secrets_file",
]
