"""SAFA_8 and its training step as one writes them plainly with Keras and with PyTorch: what `training_speed` compares with.

Both have the paper's sizes, dropout, soft-margin triplet loss and Adam; their starting weights are random.
"""

import resource

import numpy as np

BLOCKS = (2, 64), (2, 128), (3, 256), (3, 512), (3, 512)  # convolutions and channels between VGG16's poolings
DROPPED_BLOCKS = 3  # the first block whose convolutions are followed by dropout
DROPOUT, EMBEDDINGS, RATE, SCALE = 0.2, 8, 1e-5, 10.0
SHAPE = 112, 616


def images(batch_size):
    """A batch of both branches' images: two (B, 112, 616, 3) uint8 arrays."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (batch_size, *SHAPE, 3), np.uint8) for _ in range(2)]


def process_memory():
    """The largest memory that this process had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def tensorflow_memory():
    """The largest memory that TensorFlow used on the first GPU, or else this process, in GB."""
    import tensorflow as tf

    has_gpu = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e9 if has_gpu else process_memory()


def keras_calls(precision, batch_size):
    """{"forward", "step": function that computes a batch to its end, "memory": GB} of Keras's own layers and a GradientTape."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")

    class Embedding(layers.Layer):
        def build(self, shape):
            self.first = self.add_weight((shape[1], shape[1] // 2, EMBEDDINGS))
            self.second = self.add_weight((shape[1] // 2, shape[1], EMBEDDINGS))

        def call(self, maps):
            hidden = tf.einsum("bi,ijm->bjm", tf.reduce_max(maps, -1), tf.cast(self.first, maps.dtype))
            weights = tf.einsum("bjm,jim->bim", hidden, tf.cast(self.second, maps.dtype))
            return tf.einsum("bic,bim->bmc", maps, weights)

    def branch():
        inputs = maps = keras.Input((*SHAPE, 3))
        for number, (count, channels) in enumerate(BLOCKS):
            for _ in range(count):
                maps = layers.Conv2D(channels, 3, padding="same", activation="relu")(maps)
                maps = layers.Dropout(DROPOUT)(maps) if number >= DROPPED_BLOCKS else maps
            maps = layers.MaxPooling2D(2, padding="same")(maps)
        features = layers.Flatten()(Embedding()(layers.Reshape((-1, maps.shape[-1]))(maps)))
        return keras.Model(inputs, layers.UnitNormalization(dtype="float32")(features))

    branches, optimizer = (branch(), branch()), keras.optimizers.Adam(RATE)
    batch = [tf.constant(each) for each in images(batch_size)]

    def descriptors(training):
        return [each(tf.cast(seen, tf.float32), training=training) for each, seen in zip(branches, batch, strict=True)]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            sat, grd = descriptors(True)
            distances = 2 - 2 * tf.matmul(sat, grd, transpose_b=True)
            positive = tf.linalg.diag_part(distances)
            loss = tf.reduce_mean(
                tf.nn.softplus(SCALE * (positive - distances)) + tf.nn.softplus(SCALE * (positive[:, None] - distances))
            )
        variables = [variable for each in branches for variable in each.trainable_variables]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    forward = tf.function(lambda: descriptors(False))
    calls = {"forward": lambda: [each.numpy() for each in forward()], "step": lambda: step().numpy()}
    return calls | {"memory": tensorflow_memory}


def torch_calls(precision, batch_size):
    """As `keras_calls`, of torch.nn's layers: channels last, which its convolutions prefer, and autocast for bfloat16."""
    import torch
    from torch import nn

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"

    class Embedding(nn.Module):
        def __init__(self, positions):
            super().__init__()
            self.first = nn.Parameter(torch.randn(positions, positions // 2, EMBEDDINGS) * 0.005)
            self.second = nn.Parameter(torch.randn(positions // 2, positions, EMBEDDINGS) * 0.005)

        def forward(self, maps):
            maps = maps.flatten(2)
            hidden = torch.einsum("bi,ijm->bjm", maps.amax(1), self.first)
            weights = torch.einsum("bjm,jim->bim", hidden, self.second)
            return nn.functional.normalize(torch.einsum("bci,bim->bmc", maps, weights).flatten(1).float())

    def branch():
        parts, inputs, (height, width) = [], 3, SHAPE
        for number, (count, channels) in enumerate(BLOCKS):
            for _ in range(count):
                parts += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(inplace=True)]
                parts += [nn.Dropout(DROPOUT)] if number >= DROPPED_BLOCKS else []
                inputs = channels
            parts.append(nn.MaxPool2d(2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        return nn.Sequential(*parts, Embedding(height * width)).to(device, memory_format=torch.channels_last)

    branches = nn.ModuleList([branch(), branch()])
    optimizer = torch.optim.Adam(branches.parameters(), RATE)
    batch = [torch.from_numpy(each).permute(0, 3, 1, 2).to(device) for each in images(batch_size)]  # lies channels last

    def descriptors():
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            return [each(seen.float()) for each, seen in zip(branches, batch, strict=True)]

    def forward():
        branches.eval()
        with torch.inference_mode():
            return [each.cpu() for each in descriptors()]

    def step():
        branches.train()
        sat, grd = descriptors()
        distances = 2 - 2 * sat @ grd.T
        positive, softplus = distances.diagonal(), nn.functional.softplus
        loss = (softplus(SCALE * (positive - distances)) + softplus(SCALE * (positive[:, None] - distances))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def memory():
        return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else process_memory()

    return {"forward": forward, "step": step, "memory": memory}
