"""`python -m kd`: the same as the command `kd`."""

import sys

from kd.cli import main

sys.exit(main())
