"""`python -m shrinkwarp.mne` is shrinkwarp-meg."""

import sys

from ._command import main

sys.exit(main())
