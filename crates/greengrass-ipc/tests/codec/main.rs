//! Properties of the codec boundary. What the decoder allocates is measured in `codec_memory`, alone in its process.

#[cfg(test)]
mod properties;
