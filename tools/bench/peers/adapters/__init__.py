"""Who can be measured: a module a peer. The peer's library is imported in that peer's process alone.

SPAMS and glmnet are under the GPL; nothing but their own adapters, in processes of their own, touches them.
"""

import importlib

# What the table calls it: module, class
PEERS = {
    "scikit-learn": ("scikit_learn", "ScikitLearn"),
    "celer": ("celer_path", "CelerPath"),
    "skglm": ("skglm_anderson", "SkglmAnderson"),
    "SPAMS LARS": ("spams_lars", "SpamsLars"),
    "SPAMS cd": ("spams_cd", "SpamsCd"),
    "glmnet": ("glmnet_path", "GlmnetPath"),
    "PyTorch FISTA": ("torch_fista", "TorchFista"),
}
OURS = "shrinkwarp"  # followed by a blank and the name of the solver
PROGRAM = ("shrinkwarp_program", "ShrinkwarpProgram")


def is_ours(name):
    return name.split()[0] == OURS


def class_of(name):
    module, peer = PROGRAM if is_ours(name) else PEERS[name]
    return getattr(importlib.import_module(f".{module}", __package__), peer)


def create(job):
    """The peer of a job, a dict: `peer` (its name), `variant`, `threads`, `device`, `gap`, `program`.

    @raises Missing
    """
    return class_of(job["peer"])(job)
