"""Diffusion: single steps composed, Bayes by hand, Gaussians whose best denoiser is known, the papers' schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generation import diffusion

TIMES = 100


@pytest.fixture(params=["linear", "cosine"])
def signal(request):
    return diffusion.SCHEDULES[request.param](TIMES).astype(np.float64)


def test_the_linear_schedule_is_the_papers():
    """Variances from 1e-4 to 0.02 over 1,000 times; at another T the ends scale, so that about as much signal is left."""
    signal = diffusion.linear(1_000)
    variances = 1 - signal[1:].astype(np.float64) / signal[:-1]
    np.testing.assert_allclose(variances, np.linspace(1e-4, 0.02, 1_000), atol=3e-7)
    assert diffusion.linear(500)[-1] == pytest.approx(signal[-1], rel=0.1)


def test_the_cosine_schedule_is_the_papers():
    """f(t) / f(0), f(t) = cos^2((t/T + 0.008) / 1.008 * pi / 2); and the last variance, which would be 1, is 0.999."""
    signal = diffusion.cosine(1_000)
    f = [np.cos((t / 1_000 + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(1_001)]
    np.testing.assert_allclose(signal[:-1], np.array(f[:-1]) / f[0], atol=1e-6)
    assert signal[-1] == pytest.approx(0.001 * signal[-2], rel=1e-4)


def test_many_small_steps_are_one(signal):
    """x_t = sqrt(1 - b) x_(t-1) + sqrt(b) e for each b: the mean's factor and the variance after t steps."""
    factor, variance = 1.0, 0.0
    for t in range(1, TIMES + 1):
        b = 1 - signal[t] / signal[t - 1]
        factor, variance = np.sqrt(1 - b) * factor, (1 - b) * variance + b
        assert float(diffusion.diffuse(jnp.ones((1, 1)), jnp.zeros((1, 1)), signal[t])[0, 0]) == pytest.approx(factor)
        noise = float(diffusion.diffuse(jnp.zeros((1, 1)), jnp.ones((1, 1)), signal[t])[0, 0])
        assert noise**2 == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("apart", [1, 7])
def test_eta_one_is_the_posterior_by_bayes(signal, apart):
    """q(x_s | x_t, x_0) is proportional to q(x_t | x_s) q(x_s | x_0): precisions add, means weigh by them."""
    picture, noisy = 0.7, -0.4
    for t in range(apart + 1, TIMES + 1):
        now, then = signal[t], signal[t - apart]
        ratio = now / then
        precision = 1 / (1 - then) + ratio / (1 - ratio)
        mean = (np.sqrt(then) * picture / (1 - then) + np.sqrt(ratio) * noisy / (1 - ratio)) / precision
        at = [float(diffusion.step(*map(np.float64, (picture, noisy, z, now, then, 1.0)))) for z in (0.0, 1.0)]
        assert at[0] == pytest.approx(mean, abs=2e-4)
        assert (at[1] - at[0]) ** 2 == pytest.approx(1 / precision, rel=1e-2)


def test_eta_scales_the_standard_deviation_and_keeps_the_variance_of_what_is_noise(signal):
    """Whatever eta: given the picture, the step's result has q(x_s | x_0)'s variance 1 - signal_s, as eq. 7 of DDIM demands."""
    now, then = signal[60], signal[40]

    def parts(eta):  # how far a unit of the noise that is in x_t, and of the new noise, moves the result
        step = lambda noisy, z: float(diffusion.step(*map(np.float64, (0.0, noisy, z, now, then, eta))))  # noqa: E731
        return step(np.sqrt(1 - now), 0.0), step(0.0, 1.0)

    for eta in (0.0, 0.3, 1.0):
        old, new = parts(eta)
        assert old**2 + new**2 == pytest.approx(1 - then, rel=1e-4)
        assert new == pytest.approx(eta * parts(1.0)[1], abs=1e-6)
    assert parts(0.0)[1] == 0


def test_the_last_step_is_the_picture():
    assert float(diffusion.step(*map(jnp.float32, (0.25, 3.0, 5.0, 0.9, 1.0, 1.0)))) == 0.25


@pytest.mark.parametrize("of", diffusion.PREDICTIONS)
def test_every_prediction_amounts_to_the_picture(of):
    rng = np.random.default_rng(0)
    picture, noise = rng.normal(size=(2, 5, 3, 3, 1)).astype(np.float32)
    signal = np.linspace(0.05, 0.95, 5, dtype=np.float32)
    noisy = diffusion.diffuse(picture, noise, signal)
    prediction = diffusion.target(picture, noise, signal, of)
    np.testing.assert_allclose(diffusion.to_picture(prediction, noisy, signal, of), picture, atol=2e-6)


def test_the_velocity_is_the_derivative_by_the_angle():
    """With signal = cos(phi)^2 the noisy picture is cos(phi) x + sin(phi) e, and v its derivative (2202.00512, appendix D)."""
    phi, picture, noise = 0.6, jnp.array([[0.3]]), jnp.array([[-1.2]])
    _, slope = jax.jvp(lambda phi: jnp.cos(phi) * picture + jnp.sin(phi) * noise, (phi,), (1.0,))
    np.testing.assert_allclose(diffusion.target(picture, noise, np.cos(phi) ** 2, "velocity"), slope, rtol=1e-5)


def test_guidance_by_hand():
    conditional, unconditional = jnp.array([1.0, 2.0]), jnp.array([0.5, 3.0])
    assert (diffusion.guided(conditional, unconditional, 0.0) == conditional).all()
    assert (diffusion.guided(conditional, unconditional, -1.0) == unconditional).all()
    assert diffusion.guided(conditional, unconditional, 3.0).tolist() == [2.5, -1.0]


MEAN, STD = np.array([0.5, -1.0, 0.0]), np.array([0.3, 1.0, 2.0])  # of three independent Gaussian pixels


def best(of, signal):
    """The best denoiser of those pixels: E[x_0 | x_t], by Bayes, as a prediction of `of`."""

    def predict(x, time):
        left = jnp.asarray(signal)[time]
        gain = jnp.sqrt(left) * STD**2 / (left * STD**2 + 1 - left)
        picture = MEAN + gain * (x - jnp.sqrt(left) * MEAN)
        noise = (x - jnp.sqrt(left) * picture) / jnp.sqrt(1 - left)
        return diffusion.target(picture, noise, left, of)

    return predict


def drawn(of, steps, eta, count, predict=None):
    signal = diffusion.cosine(1_000)
    signal[-1] = 1e-5  # f32 would lose the picture in what is left
    keys = jax.random.split(jax.random.key(1), count)
    noise = jax.random.normal(jax.random.key(0), (count, 3))
    options = {"of": of, "steps": steps, "eta": eta, "keys": keys, "bound": None}
    return np.asarray(diffusion.sample(predict or best(of, signal), noise, signal, **options)), np.asarray(noise)


@pytest.mark.parametrize("of, eta", [("noise", 1.0), ("velocity", 0.5), ("picture", 0.0)])
def test_the_samples_of_gaussians_are_gaussian(of, eta):
    """With the best denoiser, whatever eta is: to the standard error of 1 %, and to the 3 % that 200 steps of DDPM lose."""
    x, _ = drawn(of, 200, eta, count=8_000)
    np.testing.assert_allclose((x.mean(0) - MEAN) / STD, np.zeros(3), atol=0.05)
    np.testing.assert_allclose(x.std(0), STD, rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(x.T), np.eye(3), atol=0.05)


def test_without_eta_the_way_is_a_line_for_gaussians():
    """The deterministic flow takes noise z to mean + std * z (each quantile to its own), and does so again."""
    x, noise = drawn("noise", 500, 0.0, count=50)
    np.testing.assert_allclose(x, MEAN + STD * noise, atol=0.03)
    np.testing.assert_array_equal(x, drawn("noise", 500, 0.0, count=50)[0])


def test_two_modes_are_found_in_their_shares():
    """A mixture of -1 (a quarter) and 1 (three quarters), each with deviation 0.05, by its exact posterior mean."""
    centres, shares, std = np.array([-1.0, 1.0]), np.array([0.25, 0.75]), 0.05
    signal = diffusion.cosine(1_000)

    def predict(x, time):
        left = jnp.asarray(signal)[time]
        variance = left * std**2 + 1 - left
        offset = x[..., None] - jnp.sqrt(left) * centres
        weights = jax.nn.softmax(jnp.log(shares) - offset**2 / (2 * variance), -1)
        return (weights * (centres + jnp.sqrt(left) * std**2 / variance * offset)).sum(-1)

    for eta in (0.0, 1.0):
        x, _ = drawn("picture", 100, eta, count=4_000, predict=predict)
        assert (np.abs(np.abs(x) - 1) < 0.25).mean() > 0.99
        assert (x > 0).mean() == pytest.approx(0.75, abs=0.025)


def test_a_picture_depends_on_its_own_noise_and_key_alone():
    signal = diffusion.linear(20)
    keys, noise = jax.random.split(jax.random.key(1), 4), jax.random.normal(jax.random.key(0), (4, 3))
    run = lambda rows: diffusion.sample(  # noqa: E731
        best("noise", signal), noise[rows], signal, of="noise", steps=7, eta=1.0, keys=keys[rows]
    )
    np.testing.assert_allclose(run(slice(2, 3))[0], run(slice(None))[2], rtol=1e-5)


def test_the_times_go_from_the_last_to_none():
    signal, seen = diffusion.linear(10), []

    def predict(x, time):
        jax.debug.callback(lambda t: seen.append(int(t)), time, ordered=True)
        return x

    for steps in (10, 4, 3, 1):
        jax.block_until_ready(diffusion.sample(predict, jnp.ones((1, 1)), signal, of="noise", steps=steps))
    assert seen == [*range(10, 0, -1), 10, 7, 5, 2, 10, 6, 3, 10]


@pytest.mark.parametrize("repeats", [1, 5])
def test_inpainting_keeps_what_is_known_and_fills_in_what_belongs_to_it(repeats):
    """Two pixels of correlation 0.9, one of them known to be 1: the other has mean 0.9 and variance 0.19. Repeats get closer."""
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    signal, count = diffusion.cosine(200), 4_000
    values, vectors = map(jnp.asarray, np.linalg.eigh(covariance))

    def predict(x, time):
        left = jnp.asarray(signal)[time]
        gain = jnp.sqrt(left) * values / (left * values + 1 - left)
        return ((x @ vectors) * gain) @ vectors.T

    noise = jax.random.normal(jax.random.key(0), (count, 2))
    mask = jnp.broadcast_to(jnp.array([True, False]), noise.shape)
    known = diffusion.Known(jnp.ones((count, 2)), mask, repeats)
    keys = jax.random.split(jax.random.key(2), count)
    x = diffusion.sample(predict, noise, signal, of="picture", steps=50, eta=1.0, keys=keys, bound=None, known=known)
    np.testing.assert_array_equal(x[:, 0], 1)
    error = abs(float(x[:, 1].mean()) - 0.9)
    assert error < (0.06 if repeats == 5 else 0.35)
    if repeats == 5:
        assert float(x[:, 1].var()) == pytest.approx(0.19, abs=0.06)
