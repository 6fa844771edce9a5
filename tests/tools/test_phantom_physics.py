"""The phantom's physics: its fields against volume currents integrated numerically, against Sarvas' formula written once
more and against MNE-Python where that is installed; its noise against what docs/math.md states; its truth file."""

import numpy as np
import pytest
import scipy.sparse
import scipy.stats

from program import DONE, FAILED, USAGE, one_line, run

MU0_OVER_4PI = 1e-7
BASELINE, WIDTH, SIDE = 16.8e-3, 26.4e-3, 21e-3  # m: gradiometer along and across, magnetometer
GRADIOMETER_NOISE, MAGNETOMETER_NOISE, AMBIENT_NOISE = 5e-13, 20e-15, 0.5e-12

FLOAT32 = 2.0**-24


class Phantom:
    def __init__(self, folder, *options, sensors=30, sources=60, samples=50):
        names = {name: folder / f"{name}.npy" for name in ("dictionary", "observations")}
        truth = folder / "T.npz"
        sizes = ["--sensors", sensors, "--sources", sources, "--samples", samples]
        files = ["--dictionary", names["dictionary"], "--observations", names["observations"], "--truth", truth]
        run("phantom", "meg", *sizes, *files, "--quiet", *options, status=DONE)
        self.D = np.load(names["dictionary"]).astype(float)
        self.X = np.load(names["observations"]).astype(float)
        self.codes = scipy.sparse.load_npz(truth)
        with np.load(truth) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        self.G, self.W, self.C = (self.arrays[key] for key in ("lead_field", "whitener", "noise_covariance"))
        self.places, self.orientations = self.arrays["source_position"], self.arrays["source_orientation"]
        self.magnetometer = self.arrays["sensor_is_magnetometer"]
        self.normals = self.arrays["sensor_normal"]
        self.own_noise = np.where(self.magnetometer, MAGNETOMETER_NOISE, GRADIOMETER_NOISE)

    def coil_points(self):
        """Points (n, 4, 3) at which the sensors read the field along their normals, and weights (n, 4): Gauss' rule of
        two points a side for a magnetometer, and across each coil of a gradiometer."""
        tangent = self.arrays["sensor_tangent"]
        across = np.cross(self.normals, tangent)
        gauss = 0.5 / np.sqrt(3)
        points, weights = [], []
        for end in (-1, 1):
            for side in (-1, 1):
                along = np.where(self.magnetometer, end * gauss * SIDE, end * BASELINE / 2)
                aside = np.where(self.magnetometer, side * gauss * SIDE, side * gauss * WIDTH)
                points.append(self.arrays["sensor_position"] + along[:, None] * tangent + aside[:, None] * across)
                weights.append(np.where(self.magnetometer, 0.25, end / BASELINE / 2))
        return np.stack(points, 1), np.stack(weights, 1)

    def readings(self, field, place, moment):
        """What the sensors read of a dipole whose field at points (..., 3) is `field(place, moment, points)`."""
        points, weights = self.coil_points()
        B = field(place, moment, points.reshape(-1, 3)).reshape(points.shape)
        return (np.einsum("npi,ni->np", B, self.normals) * weights).sum(1)

    def difference(self, found, wanted):
        """The largest difference of readings, relative to the largest reading of the same kind of sensor."""
        kinds = (self.magnetometer, ~self.magnetometer)
        return max(np.abs(found - wanted)[kind].max() / np.abs(wanted[kind]).max() for kind in kinds)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    return Phantom(tmp_path_factory.mktemp("fixed"), sensors=60, sources=300)


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    return Phantom(tmp_path_factory.mktemp("free"), "--free", sensors=60, sources=300)


# ------------------------------------------------------------------------------- the field of a dipole, two other ways


def sarvas(place, moment, points):
    """Equation 25 of Sarvas 1987, in the paper's own terms."""
    a = points - place
    size, r = np.linalg.norm(a, axis=1), np.linalg.norm(points, axis=1)
    F = size * (r * size + r**2 - points @ place)
    grad = ((size**2 / r + (a * points).sum(1) / size + 2 * size + 2 * r) * points.T).T - np.outer(
        size + 2 * r + (a * points).sum(1) / size, place
    )
    torque = np.cross(moment, place)
    return MU0_OVER_4PI / F[:, None] ** 2 * (np.outer(F, torque) - (points @ torque)[:, None] * grad)


def biot_savart(place, moment, points):
    """The field of the dipole's own current, without that of the currents it drives through the volume."""
    a = points - place
    return MU0_OVER_4PI * np.cross(moment, a) / np.linalg.norm(a, axis=1)[:, None] ** 3


def surface_potential(place, moment, directions, radius):
    """sigma times the potential on the surface of a homogeneous sphere, at unit vectors: the series in Legendre
    polynomials that solves Poisson's equation with no current through the surface,

      V(n) = 1 / (4 pi sigma R^2) sum over l >= 1 of (2 l + 1) / l f^(l-1) (l q_r P_l(c) + <q_t, n> P_l'(c))

    with f = |r0| / R, c = <n, r0> / |r0| and radial and tangential parts q_r, q_t of the moment.
    """
    depth = np.linalg.norm(place)
    axis = place / depth
    radial = moment @ axis
    tangential = directions @ (moment - radial * axis)
    c, f = directions @ axis, depth / radius
    before, now = np.ones_like(c), c  # P_(l-1), P_l
    slope_before, slope = np.zeros_like(c), np.ones_like(c)  # their derivatives
    total, power, order = np.zeros_like(c), 1.0, 1
    # Terms grow with l^3 at most and fall with f^l.
    while power * order**3 > 1e-16:
        total += (2 * order + 1) / order * power * (order * radial * now + tangential * slope)
        before, now = now, ((2 * order + 1) * c * now - order * before) / (order + 1)
        slope_before, slope = slope, slope_before + (2 * order + 1) * before
        power *= f
        order += 1
    return total / (4 * np.pi * radius**2)


def sphere_rule(count):
    """Unit vectors and weights that integrate polynomials of degree 2 count - 1 over the sphere."""
    height, weight = np.polynomial.legendre.leggauss(count)
    angle = 2 * np.pi * np.arange(2 * count) / (2 * count)
    width = np.sqrt(1 - height**2)
    directions = np.stack(
        [np.outer(width, np.cos(angle)), np.outer(width, np.sin(angle)), np.outer(height, np.ones_like(angle))], -1
    )
    return directions.reshape(-1, 3), np.repeat(weight * np.pi / count, 2 * count)


def volume_conductor(radius, count=72):
    """The field outside a homogeneous conducting sphere by Geselowitz' formula (1970), integrated numerically:

      B(r) = B_0(r) - mu0 / (4 pi) integral over the surface of  sigma V n x (r - r') / |r - r'|^3

    where B_0 is Biot and Savart's law for the dipole alone. Nothing of it is particular to Sarvas' solution, and the
    conductivity drops out because V is in proportion to its inverse. The integrand's harmonics of degree l fall as
    (|r0| / radius)^l and (radius / |r|)^l, so that the rule's error falls as the product of both to the 2 count.
    """
    directions, weights = sphere_rule(count)

    def field(place, moment, points):
        V = surface_potential(place, moment, directions, radius) * weights * radius**2
        B = biot_savart(place, moment, points)
        for i, point in enumerate(points):
            a = point - radius * directions
            kernel = np.cross(directions, a) / np.linalg.norm(a, axis=1)[:, None] ** 3
            B[i] -= MU0_OVER_4PI * (V @ kernel)
        return B

    return field


def shallow(phantom, count):
    """Some sources under 7.6 cm, the deepest among them: a sphere of 9 cm encloses them well."""
    depth = np.linalg.norm(phantom.places, axis=1)
    under = np.flatnonzero(depth < 0.076)
    return np.append(under[:: max(1, len(under) // count)], depth.argmin())


def test_the_potential_solves_its_equation():
    """Of a dipole at the centre 3 q . n / (4 pi R^2); and a dipole's potential has no monopole."""
    directions, weights = sphere_rule(60)
    moment = np.array([1.0, -2.0, 0.5])
    centre = surface_potential(np.array([0, 0, 1e-12]), moment, directions, 0.09)
    assert np.allclose(centre, 3 * directions @ moment / (4 * np.pi * 0.09**2), rtol=1e-9, atol=1e-9)
    assert abs(surface_potential(np.array([0.01, 0.02, 0.06]), moment, directions, 0.09) @ weights) < 1e-9
    assert np.isclose(weights.sum(), 4 * np.pi, rtol=1e-14)


@pytest.mark.parametrize("radius", [0.09, 0.1])
def test_leads_are_those_of_volume_currents(fixed, radius):
    """Tangential parts and all: G against the surface integral. The radius of the conductor drops out."""
    field = volume_conductor(radius)
    for k in shallow(fixed, 4):
        wanted = fixed.readings(field, fixed.places[k], fixed.orientations[k])
        # 0.64 = 0.076 / 0.119 to the 144 is far under float64's rounding. That is some 1e-16 times the square root of the
        # 10,368 points, of parts that cancel: of a nearly radial dipole a few percent are left, of a gradiometer's
        # difference a few more. 1e-9 leaves a factor of ten.
        assert fixed.difference(fixed.G[:, k], wanted) < 1e-9


def test_tangential_dipoles(free):
    field = volume_conductor(0.09)
    for k in shallow(free, 3):
        place = free.places[k]
        tangent = np.cross(place, [0.3, 1, 0.2])
        tangent /= np.linalg.norm(tangent)
        lead = free.G[:, 3 * k : 3 * k + 3] @ tangent
        assert free.difference(lead, free.readings(field, place, tangent)) < 1e-9
        # The volume currents matter: without them the readings are others.
        assert free.difference(lead, free.readings(biot_savart, place, tangent)) > 0.01


def test_radial_dipoles_are_silent(free):
    """In the closed form and where volume currents are summed, although the current itself is not silent."""
    field = volume_conductor(0.09)
    for k in range(len(free.places)):
        axes = free.G[:, 3 * k : 3 * k + 3]
        radial = free.places[k] / np.linalg.norm(free.places[k])
        assert np.abs(axes @ radial).max() <= 1e-12 * np.abs(axes).max()
    for k in shallow(free, 2):
        radial = free.places[k] / np.linalg.norm(free.places[k])
        alone = free.readings(biot_savart, free.places[k], radial)
        both = free.readings(field, free.places[k], radial)
        for kind in (free.magnetometer, ~free.magnetometer):
            assert np.abs(both[kind]).max() < 1e-10 * np.abs(free.G[kind, 3 * k : 3 * k + 3]).max()
        assert (
            np.abs(alone[~free.magnetometer]).max() > 0.01 * np.abs(free.G[~free.magnetometer, 3 * k : 3 * k + 3]).max()
        )


def test_leads_are_sarvas_formula(fixed, free):
    for k in range(len(fixed.places)):
        wanted = fixed.readings(sarvas, fixed.places[k], fixed.orientations[k])
        assert fixed.difference(fixed.G[:, k], wanted) < 1e-12
        for axis in range(3):
            wanted = free.readings(sarvas, free.places[k], np.eye(3)[axis])
            assert free.difference(free.G[:, 3 * k + axis], wanted) < 1e-11


# ------------------------------------------------------------------------------------------------------------ and MNE's


def mne_leads(mne, positions, normals, tangents, coils, kind, places):
    """MNE-Python's lead field (sensors, places, 3) of dipoles in its sphere model centred at the origin."""
    info = mne.create_info(len(positions), 1000.0, kind)
    for channel, position, normal, tangent, coil in zip(info["chs"], positions, normals, tangents, coils):
        # Centre of the coil, then the axes of its frame: x, y and the normal.
        channel["loc"][:12] = np.concatenate([position, tangent, np.cross(normal, tangent), normal])
        channel["coil_type"] = coil
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head")
    sphere = mne.make_sphere_model(r0=(0, 0, 0), head_radius=None)
    sources = mne.setup_volume_source_space(
        pos={"rr": places, "nn": np.tile([0.0, 0.0, 1.0], (len(places), 1))}, sphere=(0, 0, 0, 0.1), sphere_units="m"
    )
    forward = mne.make_forward_solution(info, trans=None, src=sources, bem=sphere, meg=True, eeg=False, mindist=0)
    assert forward["nsource"] == len(places)
    return forward["sol"]["data"].reshape(len(positions), len(places), 3)


@pytest.fixture(scope="module")
def mne():
    module = pytest.importorskip("mne", reason="MNE-Python is not installed")
    module.set_log_level("ERROR")
    return module


def test_mne_agrees_point_for_point(mne, free):
    """Point magnetometers of MNE's at the points of our coils, added up as our coils do: the same to float64's rounding."""
    points, weights = free.coil_points()
    positions = points.reshape(-1, 3)
    normals, tangents = (np.repeat(free.arrays[f"sensor_{key}"], 4, axis=0) for key in ("normal", "tangent"))
    picked = np.arange(0, 300, 23)
    coils = [mne.io.constants.FIFF.FIFFV_COIL_POINT_MAGNETOMETER] * len(positions)
    leads = mne_leads(mne, positions, normals, tangents, coils, "mag", free.places[picked])
    wanted = (leads.reshape(60, 4, len(picked), 3) * weights[:, :, None, None]).sum(1)
    found = free.G.reshape(60, 300, 3)[:, picked]
    for kind in (free.magnetometer, ~free.magnetometer):
        assert np.abs(found - wanted)[kind].max() < 1e-12 * np.abs(wanted[kind]).max()


def test_mne_agrees_on_vectorview_coils(mne, free):
    """MNE's own Vectorview coils. It takes four points at other places: a magnetometer's at a quarter of its side where
    Gauss' rule has them at 0.289 sides, a gradiometer's 6.7 mm off the middle where Gauss' rule has 7.6 mm. The second
    moments differ by 9 and 13 mm^2. The field turns over some 40 mm, the distance of the sources: its second derivatives
    are of the order of itself over (40 mm)^2, and half of them times the second moments half a percent of it. The largest
    differences are 0.7 and 1.0 percent of a source's largest reading."""
    positions = free.arrays["sensor_position"] - 0.3e-3 * free.normals  # MNE's coils lie 0.3 mm before their origin
    constants = mne.io.constants.FIFF
    picked = np.arange(0, 300, 23)
    found = free.G.reshape(60, 300, 3)[:, picked]
    for chosen, kind, coil, tolerance in (
        (free.magnetometer, "mag", constants.FIFFV_COIL_VV_MAG_T3, 0.015),
        (~free.magnetometer, "grad", constants.FIFFV_COIL_VV_PLANAR_T1, 0.02),
    ):
        geometry = [array[chosen] for array in (positions, free.normals, free.arrays["sensor_tangent"])]
        wanted = mne_leads(mne, *geometry, [coil] * chosen.sum(), kind, free.places[picked])
        largest = np.abs(wanted).max((0, 2), keepdims=True)  # of each source
        assert (np.abs(found[chosen] - wanted) / largest).max() < tolerance


# ------------------------------------------------------------------------------------------------ noise and whitening


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    phantom = Phantom(tmp_path_factory.mktemp("long"), sensors=30, sources=60, samples=20000)
    phantom.noise = phantom.X - phantom.codes @ phantom.D.T
    return phantom


# Each statistic below lies beyond its bounds with a probability of at most this, for noise as stated.
CHANCE = 1e-6


def test_noise_power(long):
    """The sum of squares of N n standard normal numbers is chi-square with N n degrees of freedom; so is each sensor's,
    with N."""
    low, high = scipy.stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], long.noise.size)
    assert low < (long.noise**2).sum() < high
    low, high = scipy.stats.chi2.ppf([CHANCE / 60, 1 - CHANCE / 60], len(long.noise))
    of_sensors = (long.noise**2).sum(0)
    assert (low < of_sensors).all() and (of_sensors < high).all()
    assert np.abs(long.noise.mean(0)).max() < scipy.stats.norm.isf(CHANCE / 60) / np.sqrt(len(long.noise))


def test_whitened_noise_has_covariance_identity(long):
    """Singular values of an N x n matrix of standard normal numbers lie between sqrt(N) -+ (sqrt(n) + t) but for a
    probability of 2 exp(-t^2 / 2) (Davidson, Szarek 2001): so do all directions' variances at once."""
    count, sensors = long.noise.shape
    t = np.sqrt(2 * np.log(2 / CHANCE))
    values = np.linalg.svd(long.noise, compute_uv=False)
    assert values.max() < np.sqrt(count) + np.sqrt(sensors) + t
    assert values.min() > np.sqrt(count) - np.sqrt(sensors) - t
    # The correlations' squares add up to chi-square / N.
    S = np.corrcoef(long.noise.T)
    pairs = S[np.triu_indices(sensors, 1)]
    low, high = scipy.stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], len(pairs))
    assert low < count * (pairs**2).sum() < high


@pytest.mark.parametrize("lag", [1, 2, 3, 10, 137, 4096])
def test_noise_has_no_memory(long, lag):
    """Products of samples `lag` apart, of any two sensors, have mean 0 and variance 1: the n^2 means are nearly normal
    with variance 1 / N each, and uncorrelated."""
    count = len(long.noise) - lag
    means = long.noise[lag:].T @ long.noise[:-lag] / count
    low, high = scipy.stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], means.size)
    assert low < count * (means**2).sum() < high


def test_noise_is_normal(long):
    """Kolmogorov and Smirnov's distance of the numbers from the normal law, and of rows' energies from chi-square."""
    distance = scipy.stats.kstest(long.noise.ravel(), "norm").statistic
    assert distance < scipy.stats.kstwobign.isf(CHANCE) / np.sqrt(long.noise.size)
    distance = scipy.stats.kstest((long.noise**2).sum(1), "chi2", args=(30,)).statistic
    assert distance < scipy.stats.kstwobign.isf(CHANCE) / np.sqrt(len(long.noise))


def test_noise_of_the_sensors_has_the_stated_covariance(long):
    """Unwhitened, the noise has covariance C: every combination of channels has the variance that C gives it, up to what
    Davidson and Szarek's bound leaves."""
    sensors = np.linalg.solve(long.W, long.noise.T)
    found = sensors @ sensors.T / sensors.shape[1]
    scale = long.own_noise
    L = np.linalg.cholesky(long.C / np.outer(scale, scale))
    whitened = np.linalg.solve(L, np.linalg.solve(L, found / np.outer(scale, scale)).T)
    margin = (np.sqrt(30) + np.sqrt(2 * np.log(2 / CHANCE))) / np.sqrt(len(long.noise))
    values = np.linalg.eigvalsh((whitened + whitened.T) / 2)
    assert (1 - margin) ** 2 < values.min() and values.max() < (1 + margin) ** 2


@pytest.mark.parametrize("which", ["fixed", "free", "long"])
def test_whitener(which, request):
    phantom = request.getfixturevalue(which)
    n = len(phantom.W)
    scale = phantom.own_noise
    relative = phantom.C / np.outer(scale, scale)
    size = np.linalg.eigvalsh(relative).max()
    # Rounding of C in products of numbers up to its largest eigenvalue.
    assert np.abs(phantom.W @ phantom.C @ phantom.W.T - np.eye(n)).max() < 10 * n * 2.0**-53 * size
    symmetric = phantom.W * scale
    assert np.abs(symmetric - symmetric.T).max() < 1e-13
    D = phantom.W @ phantom.G * phantom.arrays["column_weight"]
    assert np.abs(phantom.D - D).max() < (FLOAT32 + 1e-12) * np.abs(D).max()
    assert np.isclose(np.linalg.norm(phantom.D, axis=0).mean(), 1, rtol=1e-6)


def test_noise_covariance(fixed):
    """In units of each sensor's own noise C is I and nine directions more, three of them of a homogeneous field, which
    gradiometers do not see."""
    scale = fixed.own_noise
    relative = fixed.C / np.outer(scale, scale)
    values = np.linalg.eigvalsh(relative)
    assert np.allclose(values[:-9], 1, rtol=0, atol=1e-13 * values.max()) and (values[-9:] > 1.001).all()
    # The ambient field along three axes, each with what the axes before leave of it, comes first among the orthonormal
    # directions: C carries just its variance there.
    ambient = np.where(fixed.magnetometer[:, None], AMBIENT_NOISE * fixed.normals / MAGNETOMETER_NOISE, 0)
    directions, triangle = np.linalg.qr(ambient)
    assert np.allclose(
        relative @ directions, directions * (1 + np.diag(triangle) ** 2), rtol=0, atol=1e-12 * values.max()
    )
    # Whitening turns the ambient field down to what its strength leaves.
    strength = np.linalg.norm(ambient[:, 0])
    assert np.isclose(np.linalg.norm(fixed.W @ (ambient[:, 0] * scale)), strength / np.sqrt(1 + strength**2), rtol=1e-9)


# ----------------------------------------------------------------------------------------------------- the truth file


@pytest.mark.parametrize("options", [[], ["--free"], ["--seed", 5]], ids=str)
def test_truth_explains_the_recording(folder, options):
    """X is D z and noise; z is what the drives say; a code of 1 is column_weight ampere metres."""
    phantom = Phantom(folder, *options, sensors=102, sources=40, samples=900)
    m = 120 if "--free" in options else 40
    assert phantom.codes.shape == (900, m) and phantom.G.shape == phantom.D.shape == (102, m)
    assert phantom.codes.has_sorted_indices and (phantom.codes.data != 0).all()
    noise = phantom.X - phantom.codes @ phantom.D.T
    # Noise of unit variance is left, and less than that of anything else.
    low, high = scipy.stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], noise.size)
    assert low < (noise**2).sum() < high < (phantom.X**2).sum()

    drives = {key[6:]: value for key, value in phantom.arrays.items() if key.startswith("drive_")}
    assert all(len(value) == len(drives["onset"]) for value in drives.values()) and len(drives["onset"]) > 0
    time = np.arange(900)[:, None] / phantom.arrays["sample_rate"] - drives["onset"]
    sounds = (time >= 0) & (time < 1)
    t = np.where(sounds, time, 0)
    moment = drives["peak"] * np.sin(2 * np.pi * drives["frequency"] * t + drives["phase"])
    moment *= np.exp(-t / drives["decay"]) * (1 - np.exp(-t / 0.01)) * (1 - t) ** 2 * sounds
    wanted = np.zeros((900, m))
    for k, q in zip(drives["location"], moment.T):
        if m == 40:
            wanted[:, k] += q
        else:
            wanted[:, 3 * k : 3 * k + 3] += np.outer(q, phantom.orientations[k])
    found = phantom.codes.toarray() * phantom.arrays["column_weight"]
    assert np.abs(found - wanted).max() < 8 * FLOAT32 * drives["peak"].max()  # some sums of drives in float32


def test_truth_does_not_change_the_rest(folder):
    files = {}
    for truth in (False, True):
        place = folder / str(truth)
        place.mkdir()
        names = ["--dictionary", place / "D.npy", "--observations", place / "X.npy"]
        run(
            "phantom",
            "meg",
            "--samples",
            20,
            "--sources",
            50,
            *names,
            *["--truth", place / "T.npz"] * truth,
            status=DONE,
        )
        files[truth] = [(place / name).read_bytes() for name in ("D.npy", "X.npy")]
    assert files[True] == files[False]


def test_truth_types(fixed):
    arrays = fixed.arrays
    shapes = {
        "column_weight": (300,),
        "source_position": (300, 3),
        "source_orientation": (300, 3),
        "sensor_position": (60, 3),
        "sensor_normal": (60, 3),
        "sensor_tangent": (60, 3),
        "lead_field": (60, 300),
        "noise_covariance": (60, 60),
        "whitener": (60, 60),
        "sample_rate": (),
    }
    for key, shape in shapes.items():
        assert arrays[key].shape == shape and arrays[key].dtype == np.float64, key
    assert arrays["data"].dtype == np.float32 and arrays["indices"].dtype == arrays["indptr"].dtype == np.int32
    assert arrays["sensor_is_magnetometer"].dtype == bool and arrays["sensor_is_magnetometer"].sum() == 20
    assert arrays["drive_location"].dtype == np.int64 and arrays["sample_rate"] == 600
    assert np.allclose(np.linalg.norm(arrays["source_orientation"], axis=1), 1, rtol=1e-14)


def test_truth_certifies_as_codes(folder):
    """The true codes are no Lasso solution, but they are codes: certify takes them."""
    phantom = Phantom(folder)
    files = ["--dictionary", folder / "dictionary.npy", "--observations", folder / "observations.npy"]
    done = run("certify", folder / "T.npz", *files, "--lambda", 1)
    assert done.returncode == 3 and f"{phantom.codes.nnz / 50:.1f} nonzeros" in done.stdout


@pytest.mark.parametrize("which", ["dictionary", "observations"])
def test_truth_needs_a_file_of_its_own(folder, which):
    paths = {"dictionary": folder / "D.npy", "observations": folder / "X.npy"}
    names = [part for key, path in paths.items() for part in (f"--{key}", path)]
    done = run("phantom", "meg", "--samples", 10, *names, "--truth", paths[which], status=USAGE)
    assert "--truth" in one_line(done) and list(folder.iterdir()) == []


def test_truth_in_a_missing_folder_leaves_nothing(folder):
    names = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    truth = ["--truth", folder / "none" / "T.npz"]
    done = run("phantom", "meg", "--samples", 10, "--sources", 9, *names, *truth, status=FAILED)
    assert "none" in one_line(done) and list(folder.iterdir()) == []
