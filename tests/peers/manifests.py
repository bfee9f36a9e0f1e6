"""Holds manifests against the schemas of a version of Kubernetes, strictly, and prints them as JSON.

manifests.py VERSION < manifests.yaml. Kinds that Kubernetes does not know by itself are only printed. Without
VERSION nothing is checked: any YAML becomes JSON.
"""
import json
import sys

import kubernetes_validate
import yaml
from kubernetes_validate.utils import SchemaNotFoundError, ValidationError

FOREIGN = ("monitoring.coreos.com/", "gateway.networking.k8s.io/")

documents = [document for document in yaml.safe_load_all(sys.stdin) if document is not None]
wrong = []
for document in documents if len(sys.argv) > 1 else []:
    name = f"{document['kind']} {document['metadata']['name']}"
    try:
        kubernetes_validate.validate(document, sys.argv[1], strict=True)
    except ValidationError as err:
        path = ".".join(str(part) for part in err.absolute_path)
        wrong.append(f"{name}: {path}: {err.message}")
    except SchemaNotFoundError as err:
        if not document["apiVersion"].startswith(FOREIGN):
            wrong.append(f"{name}: {err.message}")
json.dump(documents, sys.stdout)
if wrong:
    sys.exit("\n".join(wrong))
