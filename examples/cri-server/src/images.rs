//! The gRPC service of images. An image is a name here: containers are processes of this machine.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tonic::{Request, Response, Status};

use crate::{
    generated::{
        FilesystemIdentifier, FilesystemUsage, Image, ImageFsInfoRequest, ImageFsInfoResponse,
        ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest, ListImagesResponse,
        PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse, UInt64Value,
        image_service_server::ImageService,
    },
    node::now,
};

/// The largest number of images, and the longest name of one.
const AT_ONCE: usize = 1000;
const LONGEST_NAME: usize = 1024;

/// The service, and the names of the images that were pulled.
#[derive(Debug, Default)]
pub(crate) struct Images {
    names: Mutex<BTreeSet<String>>,
}

impl Images {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, spec: Option<ImageSpec>) -> Option<Image> {
        let name = full_name(spec.as_ref()?).ok()?;
        let is_here = self.names().contains(&name);
        is_here.then(|| image(name))
    }
}

/// Returns the name with its tag.
fn full_name(spec: &ImageSpec) -> Result<String, Status> {
    let name = &spec.image;
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Status::invalid_argument(
            "an image needs a name, and no long one",
        ));
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    Ok(match last.contains([':', '@']) {
        true => name.clone(),
        false => format!("{name}:latest"),
    })
}

fn image(name: String) -> Image {
    let (tags, digests) = match name.contains('@') {
        true => (Vec::new(), vec![name.clone()]),
        false => (vec![name.clone()], Vec::new()),
    };
    Image {
        id: name.clone(),
        repo_tags: tags,
        repo_digests: digests,
        // A client takes an image without a size for a broken one.
        size: 1,
        spec: Some(ImageSpec {
            image: name,
            ..ImageSpec::default()
        }),
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image);
        let images = match wanted.filter(|spec| !spec.image.is_empty()) {
            Some(spec) => self.image(Some(spec)).into_iter().collect(),
            None => self.names().iter().cloned().map(image).collect(),
        };
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let image = self.image(request.into_inner().image);
        Ok(Response::new(ImageStatusResponse { image }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let name = full_name(&request.into_inner().image.unwrap_or_default())?;
        let mut names = self.names();
        if names.len() >= AT_ONCE && !names.contains(&name) {
            return Err(Status::resource_exhausted("too many images"));
        }
        names.insert(name.clone());
        Ok(Response::new(PullImageResponse { image_ref: name }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = full_name(&request.into_inner().image.unwrap_or_default())?;
        self.names().remove(&name);
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let none = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier {
                mountpoint: "/".into(),
            }),
            used_bytes: Some(UInt64Value { value: 0 }),
            inodes_used: Some(UInt64Value { value: 0 }),
        };
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![none.clone()],
            container_filesystems: vec![none],
        }))
    }
}
