#!/bin/sh
# The runner's own installs the packages that .NET needs; this one needs none.
