"""A small recording, forward solution and noise covariance, from nothing but a sphere model and a seed."""

import mne
import numpy as np

SPHERE = (0.0, 0.0, 0.04)


def _spread(count):
    """Points over the unit sphere, about evenly."""
    k = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    return np.c_[np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]


def info(magnetometers=30, electrodes=20, sfreq=200.0):
    """Magnetometers on a helmet, and electrodes with an average reference."""
    names = [f"MEG {k:03d}" for k in range(magnetometers)] + [f"EEG {k:03d}" for k in range(electrodes)]
    made = mne.create_info(names, sfreq, ["mag"] * magnetometers + ["eeg"] * electrodes)
    caps = _spread(2 * max(magnetometers, electrodes) + 4)
    caps = caps[caps[:, 2] > -0.05]
    for k, channel in enumerate(made["chs"]):
        is_magnetometer = k < magnetometers
        out = caps[(k if is_magnetometer else k - magnetometers)]
        along = np.cross(out, [0.3, 0.5, 0.7])
        along /= np.linalg.norm(along)
        position = np.array(SPHERE) + (0.12 if is_magnetometer else 0.09) * out
        if is_magnetometer:
            channel["loc"][:] = np.r_[position, along, np.cross(out, along), out]
            channel["coil_type"] = 3022
            channel["coord_frame"] = 1
        else:
            channel["loc"][:3] = position
            channel["loc"][3:6] = 0.0
            channel["coord_frame"] = 4
    with made._unlock():
        made["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
    return made


def surfaces(count=40):
    """Two folded half spheres of `count` sources each."""
    points = _spread(3 * count)
    found = []
    for side, identity in ((-1, 101), (1, 102)):
        half = points[(side * points[:, 0] > 0.05) & (points[:, 2] > -0.4)][:count]
        normals = half + 0.8 * np.roll(half, 1, axis=1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        nuse = len(half)
        found.append(dict(
            id=identity, type="surf", coord_frame=4, np=nuse, nuse=nuse, rr=np.array(SPHERE) + 0.065 * half, nn=normals,
            ntri=0, nuse_tri=0, tris=np.zeros((0, 3), int), use_tris=np.zeros((0, 3), int), vertno=np.arange(nuse),
            inuse=np.ones(nuse, int), nearest=None, nearest_dist=None, pinfo=None, patch_inds=None, dist=None,
            dist_limit=None, subject_his_id="nobody"))
    return mne.SourceSpaces(found)


def volume():
    sphere = mne.make_sphere_model(SPHERE, 0.09, verbose="error")
    return mne.setup_volume_source_space(pos=30.0, sphere=sphere, exclude=20.0, verbose="error")


def forward(measured, src):
    sphere = mne.make_sphere_model(SPHERE, 0.09, verbose="error")
    to_mri = mne.transforms.Transform("mri", "head", np.eye(4))
    return mne.make_forward_solution(measured, to_mri, src, sphere, mindist=0.0, verbose="error")


def noise_cov(measured):
    scales = np.where(np.array(measured.get_channel_types()) == "mag", 20e-15, 0.5e-6)
    return mne.Covariance(np.diag(scales**2), measured["ch_names"], [], measured["projs"], nfree=1000)


def samples(measured, made, count=60, seed=0):
    """Two sources that swing, and noise as `noise_cov` has it: (channels, count)."""
    random = np.random.RandomState(seed)
    moments = np.zeros((made["sol"]["ncol"], count))
    for place in (made["nsource"] // 4, (2 * made["nsource"]) // 3):
        direction = random.randn(3)
        wave = np.sin(2 * np.pi * (0.05 + 0.02 * random.rand()) * np.arange(count) + random.rand())
        moments[3 * place:3 * place + 3] = 40e-9 * np.outer(direction / np.linalg.norm(direction), wave)
    rows = [made["sol"]["row_names"].index(name) for name in measured["ch_names"]]
    scales = np.sqrt(np.diag(noise_cov(measured)["data"]))
    return made["sol"]["data"][rows] @ moments + scales[:, np.newaxis] * random.randn(len(scales), count)


def write_problem(folder, name="small"):
    """Writes `name`-fwd.fif and -cov.fif; returns the info and the forward solution."""
    measured = info()
    made = forward(measured, surfaces())
    mne.write_forward_solution(folder / f"{name}-fwd.fif", made)
    mne.write_cov(folder / f"{name}-cov.fif", noise_cov(measured))
    return measured, made


def raw(measured, made, count, seed=0):
    """`samples` as a Raw, with the average reference as a projector."""
    return mne.io.RawArray(samples(measured, made, count, seed), measured).set_eeg_reference(projection=True)
