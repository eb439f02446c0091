"""The manifests of deploy/kubernetes/: valid for Kubernetes, and true to evictd. The schemas come from the Python
package kubernetes-validate, in an environment of its own below the build."""

import os
import re
import subprocess
import sys
import urllib.parse

import pytest
import yaml

from harness import process
from harness.daemon import ROOT, binary

MANIFESTS = f"{ROOT}/deploy/kubernetes/evictd.yaml"
PACKAGE = "kubernetes-validate==1.37.0"
VERSIONS = ("1.28.0", "1.32.0", "1.36.0")


def documents():
    with open(MANIFESTS, encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


def of_kind(kind):
    return next(one for one in documents() if one["kind"] == kind)


def container():
    return of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture(scope="module", name="validator")
def validator_program():
    folder = os.path.join(os.path.dirname(binary()), "kubernetes-validate")
    program = f"{folder}/bin/python"
    if not os.path.exists(f"{folder}/made"):
        made = subprocess.run(f"{sys.executable} -m venv {folder} && {folder}/bin/pip install -q {PACKAGE} && touch {folder}/made", shell=True,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if made.returncode != 0 and os.environ.get("EVICTD_REQUIRE_SERVERS") != "1":
            pytest.skip(f"{PACKAGE} cannot be installed: {made.stderr[-200:]}")
        assert made.returncode == 0, made.stderr
    return program


SCRIPT = """
import sys, yaml, kubernetes_validate
for document in yaml.safe_load_all(sys.stdin):
    for version in sys.argv[1:]:
        kubernetes_validate.validate(document, version, strict=True)
"""


def validated(program, text):
    return subprocess.run([program, "-c", SCRIPT, *VERSIONS], input=text, capture_output=True, text=True, check=False)


def test_the_manifests_fit_the_published_schemas(validator):
    with open(MANIFESTS, encoding="utf-8") as file:
        text = file.read()
    done = validated(validator, text)
    assert done.returncode == 0, done.stderr[-2000:]
    # A schema that lets everything pass would prove nothing.
    assert validated(validator, text.replace("terminationGracePeriodSeconds", "terminationGraceSeconds")).returncode != 0
    assert validated(validator, text.replace("replicas: 2", "replicas: two")).returncode != 0


def test_the_url_in_the_secret_names_authorities_that_the_image_has():
    # libpq 15, which the image has, takes no "system".
    url = of_kind("Secret")["stringData"]["EVICTD_POSTGRES_URL"]
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["sslrootcert"] == ["/etc/ssl/certs/ca-certificates.crt"]
    with open(f"{ROOT}/deploy/packages.sh", encoding="utf-8") as file:
        assert re.search(r"run\)\s+echo [^;]*\bca-certificates\b", file.read())


def test_the_configuration_is_one_that_evictd_reads():
    folder = process.temporary_folder("evictd-kubernetes-")
    for name, text in of_kind("ConfigMap")["data"].items():
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    secret = of_kind("Secret")["stringData"]
    config = f"{folder}/evictd.yaml"
    done = subprocess.run([binary(), "check", "--offline", "-c", config], env=secret, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Every name that the configuration takes from the environment is in the Secret, and no other.
    assert set(re.findall(r"\$\{(\w+)\}", of_kind("ConfigMap")["data"]["evictd.yaml"])) == set(secret)
    assert container()["envFrom"] == [{"secretRef": {"name": of_kind("Secret")["metadata"]["name"]}}]


def test_what_is_named_twice_is_named_alike():
    labels = {"app.kubernetes.io/name": "evictd"}
    deployment = of_kind("Deployment")
    assert deployment["spec"]["selector"]["matchLabels"] == labels == deployment["spec"]["template"]["metadata"]["labels"]
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    with open(f"{ROOT}/deploy/kubernetes/podmonitor.yaml", encoding="utf-8") as file:
        monitor = yaml.safe_load(file)
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    port = container()["ports"][0]
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == port["name"]
    assert f':{port["containerPort"]}' == yaml.safe_load(of_kind("ConfigMap")["data"]["evictd.yaml"])["http"]["listen"]
    assert container()["args"][-1] == container()["volumeMounts"][0]["mountPath"] + "/evictd.yaml"


def test_the_user_is_that_of_the_image():
    with open(f"{ROOT}/deploy/Dockerfile", encoding="utf-8") as file:
        uid = re.search(r"--uid (\d+)", file.read())[1]
    assert str(of_kind("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]) == uid
