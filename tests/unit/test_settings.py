"""Settings: defaults, the environment, and what is said of a wrong one."""

import os
from pathlib import Path

import pytest

from eventfleet.runtime.settings import (
    PREFIX,
    Settings,
    SettingsError,
    describe,
    file_fields,
    load_settings,
    variable,
    with_data,
    with_values,
)
from eventfleet.workers.transport.consumer_thread import HEARTBEAT_SECONDS


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value).splitlines()


def test_defaults_need_no_environment() -> None:
    assert load_settings() == Settings()
    assert {described.source for described in describe(load_settings())} == {"default"}


def test_a_variable_overrides_and_is_named_as_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTFLEET_PARTITIONS", "12")
    rows = {row.variable: row for row in describe(load_settings())}
    assert rows["EVENTFLEET_PARTITIONS"][1:3] == (12, "environment")
    assert rows["EVENTFLEET_METRICS_PORT"][1:3] == (6066, "default")


def test_every_setting_has_a_description() -> None:
    assert all(row.description for row in describe(load_settings()))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PARTITIONS", "none", "'none' is not a number"),
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("REPLICATION", "0", "greater than or equal to 1"),
        ("METRICS_PORT", "70000", "less than or equal to 65535"),
        ("KAFKA_TIMEOUT", "inf", "'inf' is not a number"),
        ("KAFKA_TIMEOUT", "-1", "greater than 0"),
        ("KAFKA_SECURITY", "ssl", "'PLAINTEXT', 'SSL'"),
        ("KAFKA_BROKERS", "localhost", "'localhost' is not host:port"),
        ("KAFKA_BROKERS", "a:9092,b:99999", "'b:99999' is not host:port"),
        ("KAFKA_BROKERS", "", "is not host:port"),
        ("KAFKA_CA_FILE", "absent.pem", "no such file"),
        *[
            ("HTTP_ORIGINS", f"https://a.example,{origin}", f"{origin!r} is no origin as browsers")
            for origin in (
                *("*", "null", "b.example", "https://b.example/", "https://*.b.example"),
                *("https://B.example", "https://b.example:443", "http://b.example:80"),
            )
        ],
        ("KAFKA_INSTANCE_ID", "pod/0", "is not made of 1 to 249 letters, digits"),
        ("DOMAINS", " , ", "names no module"),
        ("MARKER_EXPIRY", "1", "greater than or equal to 5"),
        ("MARKER_LEASE", "0", "greater than 0"),
        *(
            ("TOKEN_KEY_URL", url, "is not https://host/path without a user")
            for url in (
                *("http://login.example/keys", "login.example/keys", "https://", "ftp://a/keys"),
                *("https://user:word@login.example/keys", "http://localhost@login.example/keys"),
                *("http://127.0.0.1.login.example/keys", "file:///etc/keys", "https:///keys"),
            )
        ),
        ("TOKEN_KEY_URL", "https://login.example:99999/keys", "Port out of range"),
        ("RETENTION_HOURS", "0", "neither -1 nor at least 1"),
    ],
)
def test_a_wrong_value_names_variable_value_and_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    (line,) = problems(monkeypatch, **{name: value})
    assert line.startswith(f"EVENTFLEET_{name}={value!r}: ")
    assert reason in line


def test_every_problem_has_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = problems(monkeypatch, METRICS_PORT="x", PARTITIONS="y", KAFKA_BROKER="h:1")
    assert [line.split("=")[0].split(":")[0] for line in sorted(lines)] == [
        "EVENTFLEET_KAFKA_BROKER",
        "EVENTFLEET_METRICS_PORT",
        "EVENTFLEET_PARTITIONS",
    ]


def test_an_unknown_variable_is_named_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, KAFKA_BROKRES="h:1")
    expected = "there is no such setting; did you mean EVENTFLEET_KAFKA_BROKERS?"
    assert line == f"EVENTFLEET_KAFKA_BROKRES: {expected}"


def test_an_unknown_variable_unlike_any_gets_no_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, FOO="1")
    assert line == "EVENTFLEET_FOO: there is no such setting"


def test_a_former_name_is_read_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EVENTFLEET_HOST", "0.0.0.0")
    monkeypatch.setenv("EVENTFLEET_PORT", "7000")
    settings = load_settings()
    assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 7000)
    assert {"metrics_host", "metrics_port"} <= settings.model_fields_set
    assert sorted(caplog.messages) == [
        "EVENTFLEET_HOST is now named EVENTFLEET_METRICS_HOST; the former name is read in this "
        "release only",
        "EVENTFLEET_PORT is now named EVENTFLEET_METRICS_PORT; the former name is read in this "
        "release only",
    ]


def test_the_present_name_wins_over_the_former(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTFLEET_PORT", "7000")
    monkeypatch.setenv("EVENTFLEET_METRICS_PORT", "7001")
    assert load_settings().metrics_port == 7001


def test_service_links_of_kubernetes_are_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    links = {
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "HTTP_PORT": "tcp://10.0.0.2:80",
    }
    for name, value in links.items():
        monkeypatch.setenv(PREFIX + name, value)
    assert load_settings() == Settings()
    assert not load_settings().model_fields_set
    warning = caplog.messages[0]
    assert warning.startswith("ignored EVENTFLEET_HTTP_PORT, EVENTFLEET_PORT, ")
    assert "service links of Kubernetes" in warning


def test_a_setting_like_a_service_link_by_name_only_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENTFLEET_SERVICE_URL", "http://h:1")
    monkeypatch.setenv("EVENTFLEET_HTTP_PORT", "9000")
    assert (load_settings().service_url, load_settings().http_port) == ("http://h:1", 9000)


def test_a_wrong_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, MONGO_URL="http://me:hunter2@host/")
    assert line.startswith("EVENTFLEET_MONGO_URL: ")
    assert "hunter2" not in line


def test_a_wrong_url_of_redis_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, REDIS_URL="me:hunter2@host:6379")
    assert line == (
        "EVENTFLEET_REDIS_URL: is not redis://host:port/database or rediss://host:port/database"
    )


def test_ids_are_not_forgotten_before_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = problems(monkeypatch, MARKER_EXPIRY="7200", ID_MEMORY="7199")
    assert lines == ["EVENTFLEET_ID_MEMORY=7199: is less than EVENTFLEET_MARKER_EXPIRY=7200"]
    monkeypatch.setenv("EVENTFLEET_ID_MEMORY", "7200")
    assert load_settings().id_memory == 7200


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
        (
            "rediss://me:hunter2@cache/1?ssl_ca_certs=ca.pem&ssl_password=hunter2",
            "rediss://***@cache/1?ssl_ca_certs=ca.pem&ssl_password=***",
        ),
        ("redis://cache:6379/0?password=hunter2&db=1", "redis://cache:6379/0?password=***&db=1"),
    ],
)
def test_of_the_url_of_redis_only_the_credentials_are_masked(url: str, shown: str) -> None:
    settings = Settings(redis_url=url)
    rows = {row.variable: row.value for row in describe(settings)}
    assert rows["EVENTFLEET_REDIS_URL"] == shown
    assert "hunter2" not in repr(settings)


def test_sasl_needs_a_user_name_and_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = problems(monkeypatch, KAFKA_SECURITY="SASL_SSL")
    assert lines == [
        "EVENTFLEET_KAFKA_USERNAME: is needed with EVENTFLEET_KAFKA_SECURITY=SASL_SSL",
        "EVENTFLEET_KAFKA_PASSWORD: is needed with EVENTFLEET_KAFKA_SECURITY=SASL_SSL",
    ]


@pytest.mark.parametrize(("given", "absent"), [("CERT", "KEY"), ("KEY", "CERT")])
def test_client_certificate_and_key_need_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str], given: str, absent: str
) -> None:
    pem = os.path.join(tmp_path, "a.pem")
    open(pem, "w").close()
    (line,) = problems(monkeypatch, **{f"KAFKA_{given}_FILE": pem})
    assert line == (
        f"EVENTFLEET_KAFKA_{absent}_FILE: is needed with EVENTFLEET_KAFKA_{given}_FILE={pem}"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://me:hunter2@db:27017/x", "mongodb://***@db:27017/x"),
        ("mongodb+srv://me:hu@nt/er2@db/", "mongodb+srv://***@db/"),
        (
            "mongodb://db/?tlsCertificateKeyFilePassword=hunter2&tls=true",
            "mongodb://db/?tlsCertificateKeyFilePassword=***&tls=true",
        ),
        ("mongodb://db:27017/", "mongodb://db:27017/"),
    ],
)
def test_of_the_url_only_the_credentials_are_masked(url: str, shown: str) -> None:
    rows = {row.variable: row.value for row in describe(Settings(mongo_url=url))}
    assert rows["EVENTFLEET_MONGO_URL"] == shown


def test_a_password_is_masked_wholly_and_an_empty_one_is_seen_to_be_empty() -> None:
    def password(settings: Settings) -> str:
        rows = {row.variable: row.value for row in describe(settings)}
        return str(rows["EVENTFLEET_KAFKA_PASSWORD"])

    assert password(Settings(kafka_password="x://hunter2")) == "***"
    assert password(Settings()) == ""
    assert "hunter2" not in repr(
        Settings(kafka_password="hunter2", mongo_url="mongodb://a:hunter2@b")
    )


def test_a_dead_worker_is_noticed_as_soon_as_brokers_allow_and_a_busy_one_is_not() -> None:
    """Brokers take no session shorter than six seconds; a beat may be late or lost."""
    session = Settings().kafka_session_timeout
    assert session == 6
    assert session / HEARTBEAT_SECONDS >= 10


@pytest.mark.parametrize("name", ["TOKEN_ISSUER", "TOKEN_AUDIENCE"])
def test_an_empty_claim_is_not_taken_for_any(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told = [f"EVENTFLEET_{name}: is empty; unset it to take any"]
    assert problems(monkeypatch, **{name: ""}) == told


def test_a_url_of_keys_needs_an_audience_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = "https://login.example/keys"
    needed = f"EVENTFLEET_TOKEN_AUDIENCE: is needed with EVENTFLEET_TOKEN_KEY_URL={url}"
    assert problems(monkeypatch, TOKEN_KEY_URL=url) == [needed]
    (key := tmp_path / "key").touch()
    assert problems(monkeypatch, TOKEN_AUDIENCE="fleet", TOKEN_KEY_FILE=str(key)) == [
        "EVENTFLEET_TOKEN_KEY_FILE: EVENTFLEET_TOKEN_KEY_URL is set, too; unset one"
    ]
    monkeypatch.delenv("EVENTFLEET_TOKEN_KEY_FILE")
    for allowed in (
        url,
        "http://localhost:8081/keys",
        "http://[::1]/keys",
        "http://127.0.0.1/keys",
    ):
        monkeypatch.setenv("EVENTFLEET_TOKEN_KEY_URL", allowed)
        assert load_settings().token_key_url == allowed


# Values from files


FILES = {
    "KAFKA_USERNAME": "me",
    "KAFKA_PASSWORD": "hunter 2 ",
    "MONGO_URL": "mongodb://me:hunter2@db/",
    "REDIS_URL": "redis://:hunter2@cache/0",
    "SERVICE_TOKEN": "hunter2",
}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_comes_from_a_file_without_the_newline_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    assert {field.upper() for field in file_fields()} == {*FILES}
    for name, value in FILES.items():
        (tmp_path / name).write_bytes((value + end).encode())
        monkeypatch.setenv(f"{PREFIX}{name}_FILE", str(tmp_path / name))
    monkeypatch.setenv("EVENTFLEET_KAFKA_SECURITY", "SASL_SSL")
    settings = load_settings()
    assert {name: getattr(settings, name.lower()) for name in FILES} == FILES
    rows = {row.variable: row for row in describe(settings)}
    assert rows["EVENTFLEET_KAFKA_PASSWORD"][1:3] == ("***", "environment")
    assert not any("hunter" in str(row.value) for row in rows.values())


def test_a_file_that_cant_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"gr\xfc\xdfe")
    lines = problems(
        monkeypatch,
        MONGO_URL_FILE="absent",
        REDIS_URL_FILE=str(tmp_path),
        SERVICE_TOKEN_FILE=f"{tmp_path}/latin",
    )
    assert lines == [
        "EVENTFLEET_MONGO_URL_FILE='absent': No such file or directory",
        f"EVENTFLEET_REDIS_URL_FILE='{tmp_path}': Is a directory",
        f"EVENTFLEET_SERVICE_TOKEN_FILE='{tmp_path}/latin': is not UTF-8",
    ]


def test_a_wrong_value_of_a_file_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("hunter2\n")
    [line] = problems(monkeypatch, MONGO_URL_FILE=f"{tmp_path}/url")
    assert line.startswith("EVENTFLEET_MONGO_URL: is not mongodb://")
    assert "hunter2" not in line


def test_a_value_and_a_file_of_it_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("redis://cache/0")
    lines = problems(monkeypatch, REDIS_URL_FILE=f"{tmp_path}/url", REDIS_URL="redis://h/0")
    assert lines == ["EVENTFLEET_REDIS_URL_FILE: EVENTFLEET_REDIS_URL is set, too; unset one"]


def test_only_secrets_and_their_users_come_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = problems(monkeypatch, PARTITIONS_FILE="4")
    assert line.startswith("EVENTFLEET_PARTITIONS_FILE: there is no such setting")


SERVERS = {"kafka_brokers": "h:1", "mongo_url": "mongodb://h", "redis_url": "redis://h"}


@pytest.mark.parametrize("server", SERVERS)
def test_data_and_a_server_are_one_too_many(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    found = problems(monkeypatch, DATA="here", **{server.upper(): SERVERS[server]})
    assert found == [f"EVENTFLEET_DATA: {variable(server)} is set, too; unset one"]


def test_data_is_where_no_server_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_data(Settings()).data == str(tmp_path / "eventfleet-data")
    assert with_data(Settings(data="own")).data == str(tmp_path / "own")
    assert with_data(Settings(kafka_brokers="here:1")).data == ""
    with pytest.raises(SettingsError, match="EVENTFLEET_KAFKA_BROKERS is set, too"):
        with_values(Settings(kafka_brokers="here:1"), data="own")
